"""The option ``--set KEY=VALUE`` of the commands."""

from typing import Annotated, Any

import typer

from gan_core.errors import ParamsError

SHOWN = 100
"""Letters of a setting that a message quotes."""
Setting = Annotated[list[str] | None, typer.Option("--set", help="lay KEY=VALUE over the parameters; may be repeated")]


def parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """Return values by dotted key, read as YAML; raises ``ParamsError`` for what isn't KEY=VALUE."""
    return dict(_parse(text) for text in settings or [])


def _parse(text: str) -> tuple[str, Any]:
    from gan_core.sections import parse_yaml

    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ParamsError(f"--set {text}: write KEY=VALUE, such as tune.steps=30")
    return key, parse_yaml(value, f"--set {text[:SHOWN]}: the value")
