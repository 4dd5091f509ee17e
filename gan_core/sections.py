"""Building blocks of the parameters: the base of every section, number types, and the sections of other packages."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, TypeAdapter, ValidationInfo

from gan_core.errors import ParamsError, near_matches
from gan_core.registry import Registry

Unit = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["exact", "fast"]


class Section(BaseModel):
    """A section of the parameters. It is immutable, and validation fails for unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SECTIONS: Registry[type[Section]] = Registry("section", base=Section)
"""Sections of ``extensions``, the parameters of other packages; their entry point is ``edit_dataset.section``."""
STORED = "stored"
"""The context of parameters that a run was made with: what belongs to a package that is gone is kept unchecked."""


class UncheckedSection(Section, extra="allow"):
    """A section of a package that is no longer installed, as a run was made with it."""


def _check_extensions(values: Any, info: ValidationInfo) -> Any:
    if not isinstance(values, dict):
        return values
    return {name: _check_extension(name, value, info) for name, value in values.items()}


def _check_extension(name: str, value: Any, info: ValidationInfo) -> Any:
    gone = name not in SECTIONS
    if gone and info.context != STORED:
        known = near_matches(name, SECTIONS.names())
        raise ParamsError(f"extensions: no installed package has a section {name!r}{known}")
    section = UncheckedSection if gone else SECTIONS.get(name)
    named = TypeAdapter(dict[str, section])  # type: ignore[valid-type]  # errors have its name
    return named.validate_python({name: value}, context=info.context)[name]


Extensions = Annotated[dict[str, SerializeAsAny[Section]], BeforeValidator(_check_extensions)]
