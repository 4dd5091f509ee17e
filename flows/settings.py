"""The option ``--set KEY=VALUE`` of the commands."""

import os
from typing import Annotated, Any

import typer

from gan_core.errors import ParamsError
from gan_core.secrets import hide, hide_all

SHOWN = 100
"""Letters of a setting that a message quotes."""
Setting = Annotated[list[str] | None, typer.Option("--set", help="set a parameter: KEY=VALUE; may be repeated")]
TRACK_URI = "track.uri"


def parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """Return values by dotted key, read as YAML; raises ``ParamsError`` for what isn't KEY=VALUE.

    The password of ``track.uri`` goes into this process's environment: Prefect shows the parameters of flows.
    """
    values = dict(_parse(text) for text in settings or [])
    for section, key in ((values, TRACK_URI), (values.get("track"), "uri")):
        if isinstance(section, dict) and isinstance(uri := section.get(key), str) and (hidden := hide(uri)) != uri:
            os.environ["MLFLOW_TRACKING_URI"] = uri
            section[key] = hidden
    return values


def _parse(text: str) -> tuple[str, Any]:
    from gan_core.sections import parse_yaml

    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ParamsError(f"--set {hide_all(text)[:SHOWN]}: write KEY=VALUE, such as tune.steps=30")
    try:
        return key, parse_yaml(value, f"--set {text[:SHOWN]}: the value")
    except ParamsError as error:
        raise ParamsError(hide_all(str(error))) from None
