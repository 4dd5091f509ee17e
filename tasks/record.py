"""What is logged about a finished run, kept in one small file until the tracking server has it."""

import hashlib
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prefect import get_run_logger
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict, ValidationError

from gan_core.errors import DataError
from gan_core.metrics.names import normal_name
from gan_core.recipes.base import recipe_of
from gan_core.runs.run import PENDING, TRACKED, Run, flatten
from gan_core.runs.summary import GATES, gate_numbers, load_summary
from gan_core.secrets import hide, hide_all
from gan_core.storage.atomic import write_bytes
from gan_core.storage.receipts import read_json
from gan_core.storage.urls import base_name, hash_file, join_url, open_fs, read_bytes
from tasks.shards import Done, summarise_receipt
from tasks.system_metrics import Sample
from tasks.tracking.address import address_of
from tasks.tracking.client import user
from tasks.tracking.names import LONGEST_RUN_NAME, own_name, shorten
from tasks.versions import dvc_hashes, git_sha

MADE = "results.made"
"""The tag by which a run is found again in MLflow."""
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""


class Record(BaseModel):
    """Everything about a finished run that is logged; ``run_id`` is the run in MLflow, logged by half or whole.

    ``digest`` names its results, and ``made`` the work that they came from: made anew, the same results have another
    one. ``uri`` is the address without its password.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: str
    made: str = ""
    uri: str
    experiment: str
    name: str
    started: float
    ended: float
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    dataset: dict[str, str]
    samples: list[Sample] = []
    run_id: str | None = None


def digest_results(done: Iterable[Done], metrics: Mapping[str, float]) -> str:
    """Return the sha256 of all shards and metrics: the same results, the same digest."""
    shards = sorted((each["stage"], each["shard"], each["output_sha256"]) for each in done)
    return hashlib.sha256(json.dumps([shards, dict(metrics)], sort_keys=True).encode()).hexdigest()


def digest_work(run: Run, done: Iterable[Done]) -> str:
    """Return the sha256 of all shards with the seconds that each took, and of the gates if there are any.

    A copy of a run has it too, no other run has.
    """
    shards = sorted((each["stage"], each["shard"], each["output_sha256"], each["seconds"]) for each in done)
    gates = [str(gate) for gate in run.params.gates]
    return hashlib.sha256(json.dumps([shards, gates] if gates else shards).encode()).hexdigest()


def make_record(
    run: Run, done: Sequence[Done], metrics: Mapping[str, float], started: float, samples: Sequence[Sample] = ()
) -> Record:
    """Gather what is to be logged; ``started`` is in seconds since 1970."""
    commit = git_sha()
    tags = {
        "git.sha": commit,
        "prefect.flow_run_id": flow_run.id,
        "mlflow.user": user(),
        "mlflow.source.name": str(flow_run.flow_name or "edit-dataset"),
        "mlflow.source.git.commit": (commit or "").removesuffix("-modified"),
    }
    ended = max(started, time.time())  # the clock may have been set back meanwhile
    return _gather(run, done, metrics, (started, ended), tags).model_copy(update={"samples": list(samples)})


def remake_record(run: Run) -> Record:
    """Gather what can still be known of a finished run: all but who made it, and with which commit.

    Raises ``DataError`` for one that isn't finished.
    """
    done = [summarise_receipt(shard, run.require_receipt(stage, shard)) for stage in run.stages for shard in run.shards]
    try:
        summary = load_summary(run.output)
    except (FileNotFoundError, ValueError):
        raise DataError(f"{run.output} has no readable summary.json: {run.finishing}") from None
    ended = _written(run.path("summary.json"))
    metrics = summary["metrics"] | gate_numbers(summary)
    return _gather(run, done, metrics, (ended - sum(each["seconds"] for each in done), ended), {})


def _gather(
    run: Run, done: Sequence[Done], metrics: Mapping[str, float], when: tuple[float, float], tags: dict[str, Any]
) -> Record:
    hashes = dvc_hashes({"dataset": run.source, **run.params.models.model_dump()})
    source = hide(run.source)
    work, digest = (digest_work(run, done), _dataset_digest(run, hashes)) if done else ("", hashes.get("dataset", ""))
    dataset = {"name": base_name(source), "source": source, "digest": digest}
    known = {
        "dataset.digest": dataset["digest"],
        "recipe": run.recipe,
        "mlflow.source.type": "LOCAL",
        NOTE: _note(run),
        MADE: work,
    }
    return Record(
        digest=digest_results(done, metrics),
        made=work,
        uri=hide(address_of(run.params.track)),
        experiment=run.params.track.experiment,
        name=_name(run, when[0]),
        started=when[0],
        ended=when[1],
        params=_used_params(run),
        metrics=_finite(metrics),
        tags={n: str(tag) for n, tag in (known | tags).items() if tag} | {f"dvc.{n}": h for n, h in hashes.items()},
        dataset=dataset,
    )


def _written(path: str) -> float:
    """When a file was written, in seconds since 1970; now where its store doesn't tell."""
    fs, inside = open_fs(path)
    try:
        return float(fs.modified(inside).timestamp())
    except NotImplementedError:
        return time.time()


def read_record(output: str, name: str = PENDING) -> Record | None:
    """Return what waits to be logged, or what was logged last, its metrics under the names that they have now.

    None if there is nothing, or nothing that can be read.
    """
    try:
        record = Record.model_validate_json(read_bytes(join_url(output, name)))
    except (FileNotFoundError, IsADirectoryError, ValidationError):
        return None
    named = record.metrics if record.made else {own_name(n): v for n, v in record.metrics.items()}  # 0.1: as in MLflow
    return record.model_copy(update={"metrics": {normal_name(n): v for n, v in named.items()}})


def read_tracked(output: str) -> dict[str, str]:
    """Return ``run_id`` and ``digest`` of what was logged last, also by version 0.1; nothing if that is nowhere."""
    try:
        known = read_json(join_url(output, TRACKED))
    except (FileNotFoundError, ValueError):
        return {}
    return {name: str(known[name]) for name in ("run_id", "digest") if isinstance(known, dict) and name in known}


def write_record(output: str, record: Record, name: str = PENDING) -> None:
    """Write down what is to be logged, or what was."""
    write_bytes(join_url(output, name), record.model_dump_json(indent=1).encode())


def _name(run: Run, started: float) -> str:
    """The run's name in MLflow's table: the recipe's label, dataset, output, day and minute."""
    places = [recipe_of(run).label(run), base_name(run.source), base_name(run.output)]
    name = " · ".join([*dict.fromkeys(map(hide, places)), time.strftime("%Y-%m-%d %H:%M", time.gmtime(started))])
    return shorten(name, LONGEST_RUN_NAME)


def _note(run: Run) -> str:
    """The run's description: where its output and its report are, and its page in Prefect."""
    page = f" [Prefect run]({hide(flow_run.ui_url)})." if flow_run.ui_url else ""
    return hide_all(f"Output: `{run.output}`, report: `{run.path('report.html')}`.") + page


def _used_params(run: Run) -> dict[str, str]:
    values: dict[str, Any] = run.params.model_dump(mode="json")
    sections = ("run", "models", "pictures", *run.stages, *recipe_of(run).sections, GATES)
    used = {name: values[name] for name in sections if name in values}
    if extensions := {name: section for name, section in values["extensions"].items() if name in sections}:
        used["extensions"] = extensions
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flatten(used).items()}


def _dataset_digest(run: Run, hashes: Mapping[str, str]) -> str:
    """DVC's hash if it is that of the data as they are, else one of the shards' own (MLflow takes 36 letters)."""
    known = hashes.get("dataset", "")
    if known and not known.endswith("-modified"):
        return known
    shards = [hash_file(shard) for shard in recipe_of(run).inputs(run)]
    return hashlib.sha256("".join(shards).encode()).hexdigest()[:32]


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leave out NaN and infinity."""
    refused = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if refused:
        get_run_logger().warning("not logged, because not finite: %s", ", ".join(refused))
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
