"""The page of what ``import gan_core`` offers, from the sources: nothing is imported for it."""

from collections.abc import Iterator
from pathlib import Path

import griffe

import gan_core
from documentation.pieces import page, prose

SOURCES = Path(gan_core.__file__).parents[1]
LONGEST = 100
"""Letters of a signature in one line."""
INTRODUCTION = """\
The names that `import gan_core` offers. They stay between releases; everything else in the package may move.
[The library](../library.md) shows them in use."""


def face() -> str:
    """Return the page in Markdown."""
    names = sorted(gan_core.__all__, key=str.lower)
    return page("Python interface", INTRODUCTION, *(block for name in names for block in _describe(name)))


def _describe(name: str) -> Iterator[str]:
    found = _find(f"gan_core.{gan_core._PLACES[name]}", name)
    yield f"## gan_core.{name}"
    lines = _class_lines(found) if isinstance(found, griffe.Class) else _signature(found)
    yield "\n".join(["```python", *lines, "```"]).replace("'", '"')
    yield prose(found.docstring.value if found.docstring else "")


def _find(module: str, name: str) -> griffe.Class | griffe.Function:
    """Return the class or function of a module, or of the module that it has it from."""
    path = SOURCES.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = griffe.visit(module, filepath=file, code=file.read_text()).members[name]
    if isinstance(found, griffe.Alias):
        return _find(found.target_path.rpartition(".")[0], name)
    assert isinstance(found, griffe.Class | griffe.Function), f"{module}.{name} is neither a class nor a function"
    return found


def _signature(function: griffe.Function) -> list[str]:
    whole = function.signature()
    if len(whole) <= LONGEST:
        return [whole]
    start, end = whole.index("(") + 1, whole.rindex(") ->")
    return [whole[:start], *(f"    {argument}," for argument in _split(whole[start:end])), whole[end:]]


def _split(arguments: str) -> Iterator[str]:
    """Split arguments at the commas that are in no bracket."""
    depth, begin = 0, 0
    for place, letter in enumerate(arguments):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            yield arguments[begin:place].strip()
            begin = place + 1
    yield arguments[begin:].strip()


def _class_lines(found: griffe.Class) -> list[str]:
    """Write the fields and public methods of a class as they are declared."""
    lines = [f"class {found.name}({', '.join(map(str, found.bases))}):"]
    for name, member in found.members.items():
        if isinstance(member, griffe.Function) and not name.startswith("_"):
            lines.append(f"    def {member.signature()}")
        elif isinstance(member, griffe.Attribute) and member.annotation is not None:
            default = "" if member.value is None else f" = {member.value}"
            lines.append(f"    {name}: {member.annotation}{default}")
    return lines if len(lines) > 1 else [lines[0].removesuffix(":")]
