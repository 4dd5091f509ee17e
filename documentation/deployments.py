"""The page of the deployments in ``prefect.yaml``, with the parameters of their flows."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow

from documentation.pieces import code, page, prose, table

FILE = Path(__file__).parents[1] / "prefect.yaml"
SHOWN = 2
"""Parameters in the command of each; a deployment with required ones has no command that could be copied."""
INTRODUCTION = """\
`make up`, or `edit-dataset server up`, deploys the flows that [`prefect.yaml`](../../prefect.yaml) names. The form of
each in Prefect's page has the parameters below; on the command line they are `-p NAME=VALUE`.
[Operations](../operations.md) says how they are used."""


def deployments() -> str:
    """Return the page in Markdown."""
    declared = yaml.safe_load(FILE.read_text())["deployments"]
    return page("Deployments", INTRODUCTION, *(block for each in declared for block in _describe(each)))


def _describe(declared: Mapping[str, Any]) -> Iterator[str]:
    flow = _flow(declared["entrypoint"])
    name, given = f"{flow.name}/{declared['name']}", declared.get("parameters", {})
    yield f"## {name}"
    yield " ".join([declared["description"], *_when(declared), f"Work pool: `{declared['work_pool']['name']}`."])
    properties = flow.parameters.properties
    yield table(["parameter", "default", "meaning"], (_row(key, about, given) for key, about in properties.items()))
    if all(key in given or "default" in about for key, about in properties.items()):
        chosen = "".join(f" -p {key}={_text(given[key])}" for key in list(given)[:SHOWN])
        yield f"```bash\nprefect deployment run {name} --watch{chosen}\n```"


def _flow(entrypoint: str) -> Flow[..., Any]:
    module, _, name = entrypoint.rpartition(".")
    found: Flow[..., Any] = getattr(import_module(module), name)
    return found


def _when(declared: Mapping[str, Any]) -> Iterator[str]:
    for schedule in declared.get("schedules", []):
        state = "" if schedule.get("active", True) else ", paused until you resume it"
        yield f"Schedule: `{schedule['cron']}` ({schedule['timezone']}){state}."
    for trigger in declared.get("triggers", []):
        yield f"Starts also when {trigger['name']}."
    if limit := declared.get("concurrency_limit"):
        yield f"At most {limit if isinstance(limit, int) else limit['limit']} at a time."


def _row(key: str, about: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    choices = [choice for choice in about.get("enum", []) if choice]
    said = prose(" ".join(about.get("description", "").split()))
    default = given.get(key, about.get("default", ...))
    shown = "required" if default is ... else code(_text(default))
    return [code(key), shown, f"{said} Choices: {', '.join(map(code, choices))}." if choices else said]


def _text(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
