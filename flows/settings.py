"""The option ``--set KEY=VALUE`` of the commands."""

from typing import Annotated, Any

import typer

from gan_core.errors import ParamsError

Setting = Annotated[list[str] | None, typer.Option("--set", help="set a parameter: KEY=VALUE; may be repeated")]


def parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """Return values by dotted key, read as YAML; raises ``ParamsError`` for what isn't KEY=VALUE."""
    return dict(_parse(text) for text in settings or [])


def _parse(text: str) -> tuple[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ParamsError(f"--set {text}: write KEY=VALUE, such as tune.steps=30")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ParamsError(f"--set {text}: the value is not valid YAML") from None
