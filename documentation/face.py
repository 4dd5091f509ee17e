"""The page of what ``import gan_core`` offers, from the sources: nothing is imported for it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import griffe

import gan_core
from documentation.pieces import page, prose

SOURCES = Path(gan_core.__file__).parents[1]
Found = griffe.Class | griffe.Function | griffe.Attribute
LONGEST = 100
"""Letters of a signature in one line."""
INTRODUCTION = """\
The names that `import gan_core` offers, [what they take and return](#what-they-take-and-return), and what
[packages of others](#for-packages) import. All of it stays between releases; everything else may move.
[The library](../library.md) and [extending](../extending.md) show them in use."""
TYPES: dict[str, tuple[str, ...]] = {
    "gan_core.align.quad": ("FaceSquare",),
    "gan_core.errors": ("ParamsError", "DataError", "CheckpointError"),
    "gan_core.inversion.objective": ("Losses",),
    "gan_core.inversion.projector": ("Recipe", "PTI"),
    "gan_core.inversion.pti": ("Budget", "Tuned"),
    "gan_core.stopping": ("Stopped",),
    "gan_core.storage.images": ("ImageError",),
}
"""What the functions of the library take, return and raise, by the module that it is imported from."""
FOR_PACKAGES: dict[str, tuple[str, ...]] = {
    "gan_core.editing.planned": ("PlannedEdit",),
    "gan_core.edits.base": ("EditSetting", "EditKind", "LatentEdit", "ImageEdit"),
    "gan_core.encoders.base": ("Encoder",),
    "gan_core.generators.base": ("Generator",),
    "gan_core.judges.pictures": ("Pictures",),
    "gan_core.loading": ("model_tensors",),
    "gan_core.meaning": ("Meaning",),
    "gan_core.metrics.base": (
        *("Metric", "RowMetric", "Setting", "Summary", "Columns", "State", "States"),
        *("ALIGNED", "ENCODED", "TUNED"),
    ),
    "gan_core.pages.page": ("Page",),
    "gan_core.params": ("Params", "EditSpec"),
    "gan_core.recipes.base": ("Recipe", "Plan"),
    "gan_core.recipes.edit": ("EditRecipe",),
    "gan_core.rows": ("Row", "Rejected"),
    "gan_core.runs.run": ("Run",),
    "gan_core.runs.stage": ("Stage",),
    "gan_core.sections": ("Section", "Integer", "Unit", "Positive", "Weight", "Count"),
    "gan_core.storage.images": ("load_pictures", "encode_png", "image_value"),
    "gan_core.storage.shards": ("IMAGE",),
}
"""What packages of others derive from and import, by module."""


def face() -> str:
    """Return the page in Markdown."""
    names = sorted(gan_core.__all__, key=str.lower)
    offered = [_describe(f"## gan_core.{name}", f"gan_core.{gan_core._PLACES[name]}", name) for name in names]
    parts = [
        *("## What they take and return", *_listed(TYPES)),
        *("## For packages", "[Extending](../extending.md) says what to do with these.", *_listed(FOR_PACKAGES)),
    ]
    return page("Python interface", INTRODUCTION, *(block for blocks in offered for block in blocks), *parts)


def _listed(places: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    for module, names in places.items():
        for name in names:
            yield from _describe(f"### {module}.{name}", module, name)


def _describe(heading: str, module: str, name: str) -> Iterator[str]:
    found = _find(module, name)
    yield heading
    yield "\n".join(["```python", *_lines(found), "```"]).replace("'", '"')
    if found.docstring:
        yield prose(found.docstring.value)


def _lines(found: Found) -> list[str]:
    if isinstance(found, griffe.Attribute):
        assert isinstance(found.filepath, Path) and found.lineno and found.endlineno
        return found.filepath.read_text().splitlines()[found.lineno - 1 : found.endlineno]
    return _class_lines(found) if isinstance(found, griffe.Class) else _signature(found)


def _find(module: str, name: str) -> Found:
    """Return the class, function or value of a module, or of the module that it has it from."""
    path = SOURCES.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = griffe.visit(module, filepath=file, code=file.read_text()).members[name]
    if isinstance(found, griffe.Alias):
        return _find(found.target_path.rpartition(".")[0], name)
    assert isinstance(found, Found), f"{module}.{name} is no class, function or value"
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
    bases = f"({', '.join(map(str, found.bases))})" if found.bases else ""
    lines = [f"class {found.name}{bases}:"]
    for name, member in found.members.items():
        if isinstance(member, griffe.Function) and not name.startswith("_"):
            lines.append(f"    def {member.signature()}")
        elif isinstance(member, griffe.Attribute) and member.annotation is not None:
            default = "" if member.value is None else f" = {member.value}"
            lines.append(f"    {name}: {member.annotation}{default}")
    return lines if len(lines) > 1 else [lines[0].removesuffix(":")]
