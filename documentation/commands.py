"""The page of the command line, from the commands themselves."""

from collections.abc import Iterator
from typing import Any

import typer

from documentation.pieces import code, page, prose, table
from flows.cli import app

PROGRAM = "edit-dataset"
INTRODUCTION = """\
Every command has `--help`. A mistake in the input is one line and exit code 2; a lost server or bucket is exit
code 1, a run that Ctrl-C has stopped 130. A run that was interrupted goes on when the same command is given again."""
LINKS = {"'Settings of directions fit'": "[Settings of directions fit](parameters.md#settings-of-directions-fit)"}
"""Titles that help texts name, and what leads there on the page."""


def commands() -> str:
    """Return the page in Markdown."""
    group: Any = typer.main.get_command(app)
    blocks = [block for name, command in _commands(group, PROGRAM) for block in _describe(name, command)]
    return page("Commands", INTRODUCTION, *blocks)


def _commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every command with its whole name, single commands first."""
    for own, command in sorted(group.commands.items(), key=lambda each: (hasattr(each[1], "commands"), each[0])):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{name} {own}")
        else:
            yield f"{name} {own}", command


def _describe(name: str, command: Any) -> Iterator[str]:
    yield f"## {name}"
    help_text = prose(command.help)
    for title, link in LINKS.items():
        help_text = help_text.replace(title, link)
    yield "\n".join(line.strip() for line in help_text.splitlines())
    if shown := [parameter for parameter in command.params if parameter.name != "help"]:
        yield table(["argument or option", "default", "meaning"], map(_row, shown))
    if command.epilog:
        yield f"```bash\n{command.epilog.removeprefix('Example: ')}\n```"


def _row(parameter: Any) -> list[str]:
    is_argument = parameter.param_type_name == "argument"
    names = parameter.name.upper() if is_argument else ", ".join([*parameter.opts, *parameter.secondary_opts])
    return [code(names), _default(parameter), prose(parameter.help or "")]


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.default, bool):
        return "on" if parameter.default else ""
    return code("" if parameter.default is None else str(parameter.default))
