"""The page of all parameters, from the sections in ``gan_core``."""

from collections.abc import Iterable, Iterator

from documentation.pieces import code, page, prose, table
from flows.menu import registries
from gan_core.described import Parameter, describe_section, summary_of
from gan_core.params import EDIT_KINDS, OPERATIONS, CompositionSpec, Params
from gan_core.sections import Section
from gan_core.training.params import DirectionsParams, PathsParams

NAMED = ("encoders", "landmarks", "refinements", "metrics", "tasks", "masks", "recipes")
"""Kinds of names that a parameter takes; those of edits and operations have sections of their own."""
INTRODUCTION = """\
[`params.yaml`](../../params.yaml) holds the parameters of a run. `--set KEY=VALUE` overrides one of them, such as
`--set tune.steps=30`; the variable `EDIT_DATASET__TUNE__STEPS=30` does the same, below `--set`. A file of your own may
hold some of the keys: the others have the defaults below. An unknown key is an error that names similar ones.
`edit-dataset list parameters` prints this list too.

`null` stands for no value, `''` for an empty text."""


def parameters() -> str:
    """Return the page in Markdown."""
    return page("Parameters", INTRODUCTION, *_sections(), *_entries(), *_names(), *_fits())


def _sections() -> Iterator[str]:
    for name, field in Params.model_fields.items():
        section = field.annotation
        yield f"## {name}"
        if isinstance(section, type) and issubclass(section, Section):
            yield prose(summary_of(section))
            yield _table(describe_section(section, f"{name}."))
        else:
            yield from (each.meaning for each in describe_section(Params) if each.key == name)


def _entries() -> Iterator[str]:
    yield "## Entries of edits"
    yield "What an entry of `edits` and of `translate.variants` holds, by its `kind`; without a kind it is a direction."
    for name, kind in sorted(EDIT_KINDS, key=lambda each: each[0] != "direction"):
        yield f"### kind: {name}"
        yield prose(summary_of(kind))
        yield _table(describe_section(kind.spec, without=("kind", "apply")))
    yield "## Entries of compose.plan"
    yield "What every entry of `compose.plan` may hold:"
    yield _table(describe_section(CompositionSpec))
    yield "And beside that, by its `operation`:"
    for name, operation in OPERATIONS:
        yield f"### operation: {name}"
        yield prose(summary_of(operation))
        yield _table(describe_section(operation.spec, without=tuple(CompositionSpec.model_fields)))


def _names() -> Iterator[str]:
    yield "## Names"
    yield "What the parameters above may name; packages of your own add more ([extending](../extending.md))."
    kinds = registries()
    for kind in NAMED:
        yield f"### {kind}"
        own = [(name, item) for name, item in kinds[kind] if getattr(item, "__module__", "").startswith("gan_core")]
        yield table(["name", "meaning"], ([code(name), prose(summary_of(item))] for name, item in own))


def _fits() -> Iterator[str]:
    yield "## Settings of directions fit"
    yield "What `--set` takes in `edit-dataset directions fit`, `name` and `rank`; they are no part of `params.yaml`."
    for name, section in (("paths", PathsParams), ("svm and --judge", DirectionsParams)):
        yield f"### {name}"
        yield _table(describe_section(section))


def _table(rows: Iterable[Parameter]) -> str:
    lines = [(code(p.key), p.values, code(p.default) or "required", p.meaning) for p in rows]
    return table(["key", "values", "default", "meaning"], lines) if lines else "It has no parameters of its own."
