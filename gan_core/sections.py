"""Building blocks of the parameters: the base of every section, number types, and the sections of other packages."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, TypeAdapter, ValidationInfo

from gan_core.errors import ParamsError, near_matches, one_line
from gan_core.registry import Registry

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000
MAX_DEPTH = 32
MAX_DIGITS = 100
"""Bounds on a parameter file: its length, its values with every alias written out, their nesting, and its numbers."""
MAX_INTEGER = 2**63 - 1
VARIABLES = "EDIT_DATASET__"
"""How variables of the environment that set parameters begin; ``__`` stands for the dot."""
SET = "--set, overrides or variables"
"""Where values come from that are laid over a file."""
TOLD = 5
"""Problems of one file that are told."""
SHOWN = 100
"""Letters of a wrong value that messages show."""

MAX_TEXT = 1 << 20
"""Characters of a text in the parameters."""
Integer = Annotated[int, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)]
Unit = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z][\w-]*$")]
Precision = Literal["exact", "fast"]


class Section(BaseModel):
    """A section of the parameters. It is immutable, and validation fails for unknown keys, NaN and infinity.

    The text below a parameter is its description, which the pages of documentation and `edit-dataset list` show.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        str_max_length=MAX_TEXT,  # a limit of any size makes pydantic refuse halves of characters too
    )


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


class _BoundedLoader(yaml.SafeLoader):
    """Refuses texts that would cost far more than their length, before anything is made of them."""

    def fetch_flow_collection_start(self, *token: Any) -> None:
        if self.flow_level >= MAX_DEPTH:
            raise ValueError(f"its values are nested more than {MAX_DEPTH} deep")
        super().fetch_flow_collection_start(*token)

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _count_values(node, {}, 0)
        return node


def _count_values(node: yaml.Node, counted: dict[int, int], depth: int) -> int:
    """Count a node and what is in it, an alias as often as it is used."""
    if depth > MAX_DEPTH:
        raise ValueError(f"its values are nested more than {MAX_DEPTH} deep")
    if id(node) not in counted:
        counted[id(node)] = MAX_VALUES + 1  # until it is counted: a node in itself has no end
        counted[id(node)] = 1 + sum(_count_values(inner, counted, depth + 1) for inner in _inside(node))
    if counted[id(node)] > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES} values, with its aliases written out")
    return counted[id(node)]


def _inside(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<")
        if twice := next((key for key, count in keys.items() if count > 1), None):
            raise ValueError(f"{twice[:40]} is there twice, line {node.start_mark.line + 1} and below")
        return [part for pair in node.value for part in pair]
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if len(node.value) > MAX_DIGITS and str(node.tag).endswith((":int", ":float")):
        raise ValueError(f"it has a number of {len(node.value)} digits")
    return []


def parse_yaml(text: str, where: str) -> Any:
    """Return what a YAML text holds; raises ``ParamsError`` that begins with ``where`` for what is no plain data.

    Time and memory are bounded by ``MAX_BYTES``, ``MAX_VALUES``, ``MAX_DEPTH`` and ``MAX_DIGITS``.
    """
    if len(text) > MAX_BYTES:
        raise ParamsError(f"{where} is longer than {MAX_BYTES >> 20} MiB: parameters never are")
    try:
        return _BoundedLoader(text).get_single_data()
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ParamsError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ParamsError(f"{where} is not valid YAML: its values are nested more than {MAX_DEPTH} deep") from None


def read_yaml(path: str | Path) -> Any:
    """Return what a YAML file holds, as ``parse_yaml`` does; raises ``ParamsError`` for what can't be read."""
    try:
        if Path(path).is_dir():
            raise ParamsError(f"{path} is a folder: name the parameter file in it")
        with open(path, "rb") as file:
            return parse_yaml(file.read(MAX_BYTES + 1).decode(), str(path))
    except FileNotFoundError:
        raise ParamsError(f"no parameter file at {path}: run from the project's folder or name one") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path} is not in UTF-8 (byte {error.start}): save it in that encoding") from None
    except (OSError, ValueError) as error:
        raise ParamsError(
            f"can't read the parameter file {path} ({error}): make it readable, or name another"
        ) from None


def environment_values(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return values by dotted key from variables such as ``EDIT_DATASET__RUN__WORKERS=4``, read as YAML."""
    names = sorted(name for name in environ if name.startswith(VARIABLES))
    keys = {name: ".".join(name.removeprefix(VARIABLES).lower().split("__")) for name in names}
    return {key: parse_yaml(environ[name], f"{name} in the environment") for name, key in keys.items()}


def blame(problems: Sequence[Any], overrides: Mapping[str, Any], where: str) -> str:
    """Return what has the wrong values: ``where``, or ``SET`` if all of them were laid over it."""
    wrong = [".".join(str(part) for part in problem["loc"]) for problem in problems]
    laid = [any(f"{path}.".startswith(f"{key}.") or key.startswith(f"{path}.") for key in overrides) for path in wrong]
    return SET if all(laid) else where


def set_value(values: Any, dotted: str, value: Any) -> dict[str, Any]:
    """Return nested dictionaries with ``value`` at a dotted key; raises ``ParamsError`` for a key inside a list."""
    return _merge(values, dotted.split(".", MAX_DEPTH), value)


def _merge(values: Any, keys: list[str], value: Any) -> dict[str, Any]:
    head, *rest = keys
    if not isinstance(values, dict):
        raise ParamsError(
            f"can't set {'.'.join(keys)} inside {show(values)}: only sections have keys, lists are given whole"
        )
    if rest:
        return values | {head: _merge(values.get(head) or {}, rest, value)}
    if isinstance(value, dict) and isinstance(values.get(head), dict):
        for key, inner in value.items():
            values = values | {head: _merge(values[head], [key], inner)}
        return values
    return values | {head: value}


def as_list(value: object) -> object:
    """Return a list of one text instead of the text itself, and everything else as it is."""
    return [value] if isinstance(value, str) else value


def show(value: Any) -> str:
    """Write a wrong value for a message, shortened."""
    try:
        return one_line(repr(value), SHOWN)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return f"a {type(value).__name__} that is too long to show"
