"""Parameters of every flow and stage, read from ``params.yaml``: one file for DVC, Prefect and the library."""

import operator
import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

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
from gan_core.registry import Registry
from gan_core.sections import (
    SECTIONS,
    STORED,
    Count,
    Decay,
    Extensions,
    Integer,
    Positive,
    Precision,
    Section,
    Unit,
    Weight,
    environment_values,
    read_yaml,
    set_value,
    show,
)

S = TypeVar("S", bound=Section)
TOLD = 5
"""Problems of one file that are told."""
MOVED = {
    *("portraits", "sample", "directions", "train_generator", "train_cel", "train_encoder", "train_translation"),
    *("train_identity", "train_attributes", "train_perceptual", "train_landmarks", "train_segmenter", "train_paths"),
    *("train_latent_edits", "train_digits", "train_digit_paths", "train_hypernetwork", "train_features"),
    *("study_paths", "study_digit_paths"),
}
"""Sections that are in ``toy.yaml`` now."""


class ModelPaths(Section):
    """Checkpoints, as paths or fsspec URLs; ``{encoder}`` in that of the encoder stands for ``encode.encoder``."""

    generator: str = "data/models/generator.safetensors"
    encoder: str = "data/models/{encoder}.safetensors"
    identity: str = "data/models/identity.safetensors"
    attributes: str = "data/models/attributes.safetensors"
    perceptual: str = "data/models/perceptual.safetensors"
    landmarks: str = "data/models/landmarks.safetensors"
    inception: str = "data/models/inception.safetensors"
    directions: str = "data/models/directions.safetensors"
    latent_edits: str = "data/models/latent-edits.safetensors"
    paths: str = "data/models/paths-curvilinear.safetensors"
    second_generator: str = "data/models/generator-cel.safetensors"
    segmenter: str = "data/models/segmenter.safetensors"
    domain: str = "data/models/domain.json"
    hypernetwork: str = "data/models/hyperstyle.safetensors"
    inversion: str = "data/models/inversion.json"
    features: str = "data/models/hfgi.safetensors"


class AlignParams(Section):
    """FFHQ alignment: where landmarks come from, which of several faces counts, and the sizes in pixels.

    A ``size`` of null is that of the generator, a ``transform_size`` of null four times the size.
    """

    landmarks: str = "columns"
    faces: Literal["largest", "only"] = "largest"
    size: Count | None = None
    transform_size: Count | None = None
    enable_padding: bool = True
    max_pixels: Count = 64_000_000
    min_face_px: Positive = 12.0


class EncodeParams(Section):
    """Which encoder architecture inverts the aligned images (its weights: ``models.encoder``).

    With ``rounded`` Pillow reduces them to the encoder's size, in 8 bits, as the published loaders do.
    ``out_of_domain`` says what becomes of rows that the generator can't draw, by the limits in ``models.domain``: the
    report tells of them, or they are flagged in each stage, or rejected.
    """

    encoder: str = "psp"
    rounded: bool = False
    out_of_domain: Literal["report", "flag", "reject"] = "report"


class TuneParams(Section):
    """Pivotal tuning (Roich et al. 2021, eq. 2-5) of the weights at ``min_resolution`` pixels and above (4: all).

    ``pivot`` says where the latent comes from: the encoder, or an optimisation of ``pivot_steps`` into W or W+, or from
    the encoder's latent on and near what it says of the result (``in_domain``, Zhu et al. 2020). ``persist`` says what
    is kept of a tuned generator: an 8-bit difference, a float32 one (``full``), or nothing, and the tune stage draws
    the edits itself. With ``shared`` the rows of a batch share one generator. ``refine`` names what is done, in order.
    """

    enabled: bool = True
    refine: Annotated[list[str], Field(min_length=1)] = ["pti"]
    pivot: Literal["encoder", "w", "w_plus", "in_domain"] = "encoder"
    pivot_steps: Count = 450
    pivot_lr: Positive = 0.01
    persist: Literal["none", "delta", "full"] = "delta"
    shared: bool = False
    steps: Count = 40
    lr: Positive = 5e-3
    lr_rampdown: Unit = 0.25
    betas: tuple[Decay, Decay] = (0.8, 0.95)
    min_resolution: Count = 32
    batch_size: Count = 8
    precision: Precision = "exact"
    l2_weight: Weight = 10.0
    perceptual_weight: Weight = 1.0
    stop_perceptual: Weight = 0.0
    locality_weight: Weight = 0.0
    locality_alpha: Positive = 30.0


class EditSpec(Section):
    """One entry of the edit plan; ``kind`` says what is done (one file each in ``gan_core/edits``)."""

    kind: str = "direction"


EDIT_KINDS: Registry[Any] = Registry("edit kind", "gan_core.edits", "gan_core.edits.base:EditKind")
"""Classes by name whose ``spec`` is the section of an entry of ``edits``; ``gan_core.edits.base`` has their type."""
OPERATIONS: Registry[Any] = Registry("operation", "gan_core.compose.kinds", "gan_core.compose.base:Operation")
"""Classes by name whose ``spec`` is the section of an entry of ``compose.plan``, see ``gan_core.compose.base``."""


class EditParams(EditSpec):
    """A direction at each strength (1 moves the attribute by half of its range); what an entry without a kind is."""

    kind: Literal["direction"] = "direction"
    direction: str
    strengths: Annotated[list[float], Field(min_length=1)]
    layers: tuple[Integer, Integer] | None = None


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
    """One entry of the composition plan; ``operation`` says what is done (files in ``gan_core/compose/kinds``).

    ``sources`` are groups of keys; ``count`` more are drawn at random from ``seed``, ``group`` sources each (0: the
    fewest that the operation takes). ``name`` tells entries of one operation apart.
    """

    operation: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    sources: list[list[str]] = []
    count: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    group: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    seed: Integer = 0


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
    """What ``compose-dataset`` draws; ``psi`` truncates the codes of seeds."""

    psi: Unit = 0.7
    rows_per_shard: Count = 100
    plan: list[Composition] = []


class TranslateParams(Section):
    """What ``translate-dataset`` does: a task of ``gan_core.translation.tasks`` over the column ``column``.

    With ``made`` that column holds pictures that inputs are made of (reduced by one of ``factors``, hidden by one of
    ``masks``, drawn from the label maps in ``labels``), else the inputs themselves, and ``truth`` may name the
    pictures. Label maps have the classes 0 to ``classes`` - 1; the project's own have 13. ``label_resampling`` is how
    maps of another size reach that of the encoder; ``bilinear`` interpolates the ids, as pSp's loader does.
    ``variants`` are edits of the latents, such as style mixing. An empty ``encoder`` means the project's own.
    """

    task: str = "super-resolution"
    encoder: str = ""
    align: bool = False
    column: str = "image"
    made: bool = True
    truth: str = ""
    labels: str = "labels"
    classes: Count = 13
    label_resampling: Literal["nearest", "bilinear"] = "nearest"
    factors: Annotated[list[Count], Field(min_length=1)] = [8]
    masks: Annotated[list[str], Field(min_length=1)] = ["box"]
    variants: list[Edit] = []


class PasteParams(Section):
    """Whether edited faces return into their photographs; ``feather``: the soft edge, as a share of the square."""

    enabled: bool = False
    feather: Annotated[float, Field(ge=0, le=0.5)] = 0.1


METRIC_SETS: dict[str, list[str]] = {
    "toy": ["mse", "psnr", "lpips", "identity", "attributes", "fid", "swd"],
    "photos": ["mse", "psnr", "perceptual", "identity-distance", "face-attributes", "frechet", "swd"],
    "photos-basic": ["mse", "psnr", "perceptual", "identity-distance", "frechet", "swd"],
    "photos-things": ["mse", "psnr", "perceptual", "frechet", "swd"],
    "photos-people": ["mse", "psnr", "perceptual", "identity-distance", "identity-pairs", "face-attributes", "frechet"],
}
"""Metrics by the name of their set, which may stand for them or for the whole section: ``measure: photos``.

``photos-basic`` needs no package beside the extra ``photos``; ``photos-things`` is for pictures of anything but faces;
``photos-people`` also compares rows with each other.
"""


class MeasureParams(Section):
    """Which metrics are computed, and the sample that the distribution metrics use; ``swd_edits`` scores edits too."""

    metrics: list[str] = METRIC_SETS["toy"]
    swd_images: Count = 256
    swd_edits: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_set(cls, values: Any) -> Any:
        values = {"metrics": values} if isinstance(values, str) else values
        chosen = values.get("metrics") if isinstance(values, dict) else None
        if not isinstance(chosen, str):
            return values
        if chosen not in METRIC_SETS:
            raise ValueError(f"unknown set of metrics {chosen!r}{near_matches(chosen, METRIC_SETS)}")
        return values | {"metrics": METRIC_SETS[chosen]}


class Params(Section):
    """Everything in ``params.yaml``: what runs do; ``extensions`` has the sections of other packages, by name.

    ``gates`` (which finished rows may be published) and ``invert`` are not written down with a run that has none.
    """

    run: RunParams = RunParams()
    models: ModelPaths = ModelPaths()
    align: AlignParams = AlignParams()
    encode: EncodeParams = EncodeParams()
    tune: TuneParams = TuneParams()
    invert: Annotated[InvertParams, Field(exclude_if=lambda invert: not invert.given)] = InvertParams()
    edits: list[Edit] = []
    compose: ComposeParams = ComposeParams()
    translate: TranslateParams = TranslateParams()
    paste: PasteParams = PasteParams()
    measure: MeasureParams = MeasureParams()
    pictures: PictureParams = PictureParams()
    gates: Annotated[Gates, Field(exclude_if=operator.not_)] = []
    track: TrackParams = TrackParams()
    extensions: Extensions = {}

    def encoder_path(self, variant: str) -> Path:
        """Where an encoder lies: ``models.encoder`` for the one that ``encode`` names, else beside it by its name."""
        path = Path(self.models.encoder)
        return path if variant == self.encode.encoder else path.with_name(f"{variant}.safetensors")

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
    """Read and check a file of the sections of ``model``, as ``load_params`` does."""
    values = read_yaml(path) or {}
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: sections and their keys are expected, not a {type(values).__name__}")
    return check_sections(model, values, str(path), overrides)


def check_params(values: dict[str, Any], where: str = "params") -> Params:
    """Validate a nested dictionary; raises ``ParamsError`` with one line for all its problems."""
    return check_sections(Params, values, where)


def check_stored_params(values: dict[str, Any], where: str) -> Params:
    """Validate the parameters in a ``run.json``.

    Older runs have the sections of the toy world as well; sections of packages that are gone are kept unchecked.
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
        raise ParamsError(f"{where}: {told}{more}") from None
    except RecursionError:
        raise ParamsError(f"{where}: values are nested too deeply") from None


def _explain(error: Any, model: type[Section], values: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{path}: {error['msg']} (got {show(error['input'])})"
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
