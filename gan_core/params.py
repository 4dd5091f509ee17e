"""Parameters of every flow and stage, read from ``params.yaml``: one file for DVC, Prefect and the library."""

import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from gan_core.budgets import InvertParams
from gan_core.errors import ParamsError, near_matches
from gan_core.execution import PictureParams, RunParams, TrackParams
from gan_core.gates import Gates
from gan_core.registry import Registry, place_of
from gan_core.sections import (
    SECTIONS,
    STORED,
    TOLD,
    Count,
    Extensions,
    Integer,
    Section,
    Unit,
    blame,
    environment_values,
    read_yaml,
    set_value,
    show,
)
from gan_core.stage_params import METRIC_SETS as METRIC_SETS
from gan_core.stage_params import AlignParams, EncodeParams, MeasureParams, ModelPaths, PasteParams, TuneParams

S = TypeVar("S", bound=Section)
MOVED = {
    *("portraits", "sample", "directions", "train_generator", "train_cel", "train_encoder", "train_translation"),
    *("train_identity", "train_attributes", "train_perceptual", "train_landmarks", "train_segmenter", "train_paths"),
    *("train_latent_edits", "train_digits", "train_digit_paths", "train_hypernetwork", "train_features"),
    *("study_paths", "study_digit_paths", "study_encoders", "study_translations", "study_singan"),
    *("train_shapes", "train_shape_reader", "study_shape_paths", "train_judge"),
}
"""Sections that are in ``toy.yaml`` now."""


class EditSpec(Section):
    """One entry of the edit plan; ``kind`` says what is done (one file each in ``gan_core/edits``)."""

    kind: str = "direction"
    """What is done: a name of `edit-dataset list edits`."""


def entries_of(base: type[Section], key: str) -> Callable[[str, Any], str]:
    """Return a check of classes by name: their ``spec`` is a ``base`` for entries with that name under ``key``."""

    def check(name: str, item: Any) -> str:
        if not (isinstance(item.spec, type) and issubclass(item.spec, base)):
            return f"its spec is not a class derived from {place_of(base)}"
        taken = item.spec.model_fields[key].annotation
        named = get_args(taken) if get_origin(taken) is Literal else (name,)
        return "" if name in named else f"its spec is one for {key} {' or '.join(map(repr, named))}"

    return check


EDIT_KINDS: Registry[Any] = Registry(
    "edit kind", "gan_core.edits", "gan_core.edits.base:EditKind", check=entries_of(EditSpec, "kind")
)
"""Classes by name whose ``spec`` is the section of an entry of ``edits``; ``gan_core.edits.base`` has their type."""


class EditParams(EditSpec):
    """A direction of `models.directions` at each strength; what an entry without a kind is."""

    kind: Literal["direction"] = "direction"
    direction: str
    """A name of `edit-dataset directions list`."""
    strengths: Annotated[list[float], Field(min_length=1)]
    """One column of pictures each; 1 moves the attribute by half of its range."""
    layers: tuple[Integer, Integer] | None = None
    """The latents that move, from the first up to but not including the last; null: those of the direction."""


def edit_spec(kind: Any) -> type[EditSpec]:
    """Return the section that an entry of this kind is checked by; raises ``ParamsError`` for an unknown kind."""
    if kind == "direction":
        return EditParams
    spec: type[EditSpec] = EDIT_KINDS.get(kind).spec
    return spec


class UncheckedEdit(EditSpec, extra="allow"):
    """An entry whose kind belongs to a package that is no longer installed, as a run was made with it."""


def _check_edit(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, dict):
        return value
    kind = value.get("kind", "direction")
    gone = info.context == STORED and kind not in EDIT_KINDS
    return (UncheckedEdit if gone else edit_spec(kind)).model_validate(value, context=info.context)


Edit = Annotated[SerializeAsAny[EditSpec], BeforeValidator(_check_edit)]


class CompositionSpec(Section):
    """One entry of the composition plan (files in ``gan_core/compose/kinds``)."""

    operation: str
    """What is done: a name of `edit-dataset list operations`."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    """Tells entries of one operation apart."""
    sources: list[list[str]] = []
    """Groups of keys; each group is one composition."""
    count: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Further compositions, whose sources are drawn at random."""
    group: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Sources of each of those; 0: the fewest that the operation takes."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Where that draw begins."""


OPERATIONS: Registry[Any] = Registry(
    "operation",
    "gan_core.compose.kinds",
    "gan_core.compose.base:Operation",
    check=entries_of(CompositionSpec, "operation"),
)
"""Classes by name whose ``spec`` is the section of an entry of ``compose.plan``, see ``gan_core.compose.base``."""


def composition_spec(operation: Any) -> type[CompositionSpec]:
    """Return the section that an entry of this operation is checked by; raises ``ParamsError`` for an unknown one."""
    if not isinstance(operation, str):
        return CompositionSpec
    spec: type[CompositionSpec] = OPERATIONS.get(operation).spec
    return spec


class UncheckedComposition(CompositionSpec, extra="allow"):
    """An entry whose operation belongs to a package that is no longer installed, as a run was made with it."""


def check_composition(value: Any, info: ValidationInfo) -> Any:
    """Turn a dictionary into the section of its operation; raises ``ParamsError`` for an unknown operation."""
    if not isinstance(value, dict):
        return value
    operation = value.get("operation")
    gone = info.context == STORED and operation not in OPERATIONS
    return (UncheckedComposition if gone else composition_spec(operation)).model_validate(value, context=info.context)


Composition = Annotated[SerializeAsAny[CompositionSpec], BeforeValidator(check_composition)]


class ComposeParams(Section):
    """What ``edit-dataset compose`` draws."""

    psi: Unit = 0.7
    """Truncation of codes that are drawn from seeds; 1: none."""
    rows_per_shard: Count = 100
    """Compositions in a full shard."""
    plan: list[Composition] = []
    """What is drawn, one entry for each operation."""


class TranslateParams(Section):
    """What ``edit-dataset translate`` does: one task over a column of pictures."""

    task: str = "super-resolution"
    """A name of `edit-dataset list tasks`."""
    encoder: str = ""
    """The file of the task's encoder; empty: the project's own."""
    align: bool = False
    """Whether pictures are aligned first."""
    column: str = "image"
    """The column of the pictures, or of the inputs where `made` is false."""
    made: bool = True
    """Inputs are made of the column's pictures (reduced, hidden, drawn from label maps); false: it holds the inputs."""
    truth: str = ""
    """The column of the pictures that results are compared with, where `made` is false; empty: none."""
    labels: str = "labels"
    """The column of label maps."""
    classes: Annotated[int, Field(ge=1, le=256)] = 13
    """Classes of the label maps, 0 to this minus 1; the project's own have 13."""
    label_resampling: Literal["nearest", "bilinear"] = "nearest"
    """How maps of another size reach that of the encoder; `bilinear` interpolates the ids, as pSp's loader does."""
    factors: Annotated[list[Count], Field(min_length=1)] = [8]
    """By how much pictures are reduced for super-resolution; of several, one is drawn for each row."""
    masks: Annotated[list[str], Field(min_length=1)] = ["box"]
    """What is hidden for inpainting: names of `edit-dataset list masks`; of several, one is drawn for each row."""
    variants: list[Edit] = []
    """Edits of the latents that give further outputs, such as style mixing."""


class Params(Section):
    """Everything in ``params.yaml``: what runs do.

    ``gates`` and ``invert`` are not written down with a run that has none.
    """

    run: RunParams = RunParams()
    models: ModelPaths = ModelPaths()
    align: AlignParams = AlignParams()
    encode: EncodeParams = EncodeParams()
    tune: TuneParams = TuneParams()
    invert: Annotated[InvertParams, Field(exclude_if=lambda invert: not invert.given)] = InvertParams()
    edits: list[Edit] = []
    """The edits of each picture, a list; the keys of an entry depend on its kind."""
    compose: ComposeParams = ComposeParams()
    translate: TranslateParams = TranslateParams()
    paste: PasteParams = PasteParams()
    measure: MeasureParams = MeasureParams()
    pictures: PictureParams = PictureParams()
    gates: Annotated[Gates, Field(exclude_if=operator.not_)] = []
    """Limits of scores, such as `lpips <= 0.2` or `lpips <= q0.9`: finished rows that fail one are not published."""
    track: TrackParams = TrackParams()
    extensions: Extensions = {}
    """The sections of other packages, by name."""

    def encoder_path(self, variant: str) -> str:
        """Where an encoder lies: ``models.encoder`` for the one that ``encode`` names, else beside it by its name."""
        return self.models.encoder if variant == self.encode.encoder else self.models.beside_encoder(variant)

    def extension(self, name: str, kind: type[S]) -> S:
        """Return the section ``name`` of another package, with its defaults where the file has none."""
        section = self.extensions.get(name)
        return section if isinstance(section, kind) else kind()

    @model_validator(mode="after")
    def _name_encoder(self) -> Self:
        path = self.models.encoder.replace("{encoder}", self.encode.encoder)
        object.__setattr__(self, "models", self.models.model_copy(update={"encoder": path}))
        return self


def load_params(path: str | Path = "params.yaml", overrides: dict[str, Any] | None = None) -> Params:
    """Read and check ``path``, with ``overrides`` (nested, or dotted keys such as ``"tune.steps"``) laid over it.

    Variables such as ``EDIT_DATASET__RUN__WORKERS`` come between: over the file, below ``overrides``. Raises
    ``ParamsError`` naming the path to the offending key, with near matches.
    """
    return load_sections(Params, path, environment_values(os.environ) | (overrides or {}))


def load_sections(model: type[S], path: str | Path, overrides: dict[str, Any] | None = None) -> S:
    """Read and check a file of the sections of ``model``, as ``load_params`` does, with the same ``ParamsError``."""
    values = read_yaml(path) or {}
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: sections and their keys are expected, not a {type(values).__name__}")
    # a section all of whose keys are commented out is null in YAML
    given = {name: value for name, value in values.items() if value is not None or name not in model.model_fields}
    return check_sections(model, given, str(path), overrides)


def check_params(values: dict[str, Any], where: str = "params") -> Params:
    """Validate a nested dictionary; raises ``ParamsError`` with one line for all its problems."""
    return check_sections(Params, values, where)


def check_stored_params(values: dict[str, Any], where: str) -> Params:
    """Validate the parameters in a ``run.json``.

    Older runs have the sections of the toy world as well; sections of packages that are gone are kept unchecked.
    Raises ``ParamsError`` with one line for all problems.
    """
    if not isinstance(values, dict):
        raise ParamsError(f"{where}: its parameters are damaged: make the run again in another folder")
    return check_sections(Params, {n: v for n, v in values.items() if n not in MOVED}, where, context=STORED)


def check_sections(
    model: type[S],
    values: dict[str, Any],
    where: str,
    overrides: dict[str, Any] | None = None,
    context: str | None = None,
) -> S:
    """Validate a nested dictionary with ``overrides`` laid over it; raises ``ParamsError`` as ``load_params`` does."""
    for dotted, value in (overrides or {}).items():
        values = set_value(values, dotted, value)
    try:
        return model.model_validate(values, context=context)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        more = f"; and {len(problems) - TOLD} more" if len(problems) > TOLD else ""
        told = "; ".join(_explain(problem, model, values) for problem in problems[:TOLD])
        raise ParamsError(f"{blame(problems, overrides or {}, where)}: {told}{more}") from None
    except RecursionError:
        raise ParamsError(f"{where}: values are nested too deeply") from None


def _explain(error: Any, model: type[Section], values: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{path}: {error['msg'].removeprefix('Value error, ')} (got {show(error['input'])})"
    if model is Params and path in MOVED:
        return f"{path} is a section of toy.yaml now (`edit-dataset directions` takes --set KEY=VALUE instead)"
    *parents, key = error["loc"]
    return f"unknown key {path}{near_matches(str(key), _section(parents, model, values).model_fields)}"


def _section(path: list[str | int], model: Any, values: Any) -> type[BaseModel]:
    for part in path:
        values = values[part]
        if path[0] == "extensions":
            model = SECTIONS.get(str(path[1])) if len(path) > 1 else model
        elif path[0] == "edits" or path[1:2] == ["variants"]:
            model = edit_spec(values.get("kind", "direction")) if isinstance(values, dict) else model
        elif isinstance(values, dict) and "operation" in values:
            model = composition_spec(values["operation"])
        elif isinstance(part, str):
            model = model.model_fields[part].annotation if hasattr(model, "model_fields") else get_args(model)[1]
    return model
