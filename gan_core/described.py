"""Parameters as text: the key of each, what it takes, its default and its description, read from the sections."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gan_core.sections import MAX_INTEGER, Section

SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
UNBOUNDED = {MAX_INTEGER, -MAX_INTEGER, 2**31 - 1}
"""Limits that only keep integers within their types."""
NAMES: dict[object, str] = {bool: "true or false", int: "whole number", float: "number", str: "text"}


@dataclass(frozen=True)
class Parameter:
    """A parameter: its dotted ``key``, the ``values`` that it takes, its ``default`` as YAML, empty if it has none."""

    key: str
    values: str
    default: str
    meaning: str


def summary_of(item: object) -> str:
    """Return the first paragraph of the documentation of a class or function in one line; other values as text."""
    documented = inspect.isclass(item) or inspect.isroutine(item)
    return " ".join(((item.__doc__ or "") if documented else str(item)).split("\n\n")[0].split())


def describe_section(section: type[Section], prefix: str = "", without: Sequence[str] = ()) -> Iterator[Parameter]:
    """Yield the parameters of a section in order, those of sections in it too, except ``without``."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from describe_section(inner, f"{prefix}{name}.")
        elif name not in without:
            yield Parameter(f"{prefix}{name}", values_of(inner, field.metadata), _default(field), _said(section, name))


def values_of(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Say what a parameter of this type takes, in words, with the bounds that ``metadata`` gives."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values_of(inner[0], inner[1:])
    if origin in (Union, UnionType):
        return " or ".join("null" if part is NoneType else values_of(part, metadata) for part in inner)
    if origin is Literal:
        return ", ".join(str(choice) for choice in inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"{len(inner)} × {values_of(inner[0])}"
    if origin in (list, tuple):
        return f"list of: {values_of(inner[0])}"
    if origin is dict:
        return f"by name: {values_of(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "an entry"
    return f"{NAMES.get(annotation, 'text')}{_bounds(metadata)}"


def _bounds(metadata: Sequence[Any]) -> str:
    limits = [part for each in metadata for part in (each.metadata if isinstance(each, FieldInfo) else [each])]
    said = [
        f"{sign} {limit:g}"
        for each in limits
        for name, sign in SIGNS.items()
        if (limit := getattr(each, name, None)) is not None and limit not in UNBOUNDED
    ]
    return f" {', '.join(said)}" if said else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True, validated_data={})
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def _said(section: type[Section], name: str) -> str:
    """The description of a field, which a section that narrows the field need not repeat."""
    known = (fields[name] for each in section.__mro__ if name in (fields := getattr(each, "model_fields", {})))
    return next((" ".join(field.description.split()) for field in known if field.description), "")
