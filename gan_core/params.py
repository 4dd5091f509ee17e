"""Parameters of every flow and stage, read from ``params.yaml``: one file for DVC, Prefect and the library."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from gan_core.errors import ParamsError, near_matches
from gan_core.sections import Count, Decay, Positive, Precision, Section, Unit, Weight
from gan_core.toy.params import (
    DirectionsParams,
    LatentEditsParams,
    PathsParams,
    PortraitsParams,
    SampleParams,
    Term,
    TrainCelParams,
    TrainDigitsParams,
    TrainEncoderParams,
    TrainGeneratorParams,
    TrainMeasureParams,
    TrainTranslationParams,
)

__all__ = [
    "AlignParams",
    "ComposeParams",
    "Composition",
    "CompositionSpec",
    "Count",
    "Decay",
    "DirectionsParams",
    "Edit",
    "EditParams",
    "EditSpec",
    "EncodeParams",
    "LatentEditsParams",
    "MeasureParams",
    "ModelPaths",
    "Params",
    "PasteParams",
    "PathsParams",
    "PortraitsParams",
    "Positive",
    "Precision",
    "RunParams",
    "SampleParams",
    "Section",
    "Term",
    "TrackParams",
    "TrainCelParams",
    "TrainDigitsParams",
    "TrainEncoderParams",
    "TrainGeneratorParams",
    "TrainMeasureParams",
    "TrainTranslationParams",
    "TranslateParams",
    "TuneParams",
    "Unit",
    "Weight",
    "check_composition",
    "check_params",
    "composition_spec",
    "edit_spec",
    "load_params",
]


class RunParams(Section):
    """How a run is executed; nothing here may change a result, except ``precision``."""

    workers: Count = 2
    batch_size: Count = 32
    precision: Precision = "exact"
    runner: Literal["threads", "processes", "dask"] = "threads"
    dask_address: str = ""
    deployment: str = ""
    shards_per_batch: Count = 8
    concurrency_limit: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read_old_name(cls, values: Any) -> Any:
        """Read ``device_limit``, the former name of ``concurrency_limit``, unless that is set as well."""
        if not isinstance(values, dict) or "device_limit" not in values:
            return values
        new = {name: value for name, value in values.items() if name != "device_limit"}
        return new if new.get("concurrency_limit") else new | {"concurrency_limit": values["device_limit"]}


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


class AlignParams(Section):
    """FFHQ alignment: where landmarks come from, which of several faces counts, and the sizes in pixels."""

    landmarks: str = "columns"
    faces: Literal["largest", "only"] = "largest"
    size: Count = 64
    transform_size: Count = 256
    enable_padding: bool = True
    max_pixels: Count = 64_000_000
    min_face_px: Positive = 12.0


class EncodeParams(Section):
    """Which encoder architecture inverts the aligned images (its weights: ``models.encoder``)."""

    encoder: str = "psp"


class TuneParams(Section):
    """Pivotal tuning (Roich et al. 2021, eq. 2-5) of the weights at ``min_resolution`` pixels and above (4: all).

    ``pivot`` says where the latent comes from: the encoder, or an optimisation of ``pivot_steps`` into W or W+.
    ``persist`` says what is kept of a tuned generator: a quantised difference, a float32 one (``full``), or nothing,
    and the tune stage draws the edits itself. With ``shared`` the rows of a batch share one generator.
    """

    enabled: bool = True
    pivot: Literal["encoder", "w", "w_plus"] = "encoder"
    pivot_steps: Count = 450
    pivot_lr: Positive = 0.01
    persist: Literal["none", "delta", "full"] = "delta"
    shared: bool = False
    steps: Count = 60
    lr: Positive = 1e-3
    lr_rampdown: Unit = 0.0
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    min_resolution: Count = 4
    batch_size: Count = 8
    precision: Precision = "exact"
    l2_weight: Weight = 1.0
    perceptual_weight: Weight = 1.0
    stop_perceptual: Weight = 0.0
    locality_weight: Weight = 0.0
    locality_alpha: Positive = 30.0


class EditSpec(Section):
    """One entry of the edit plan; ``kind`` says what is done (one file each in ``gan_core/edits``)."""

    kind: str = "direction"


class EditParams(EditSpec):
    """A direction at each strength (1 moves the attribute by half of its range); what an entry without a kind is."""

    kind: Literal["direction"] = "direction"
    direction: str
    strengths: Annotated[list[float], Field(min_length=1)]
    layers: tuple[int, int] | None = None


def edit_spec(kind: Any) -> type[EditSpec]:
    """Return the section that an entry of this kind is checked by; raises ``ParamsError`` for an unknown kind."""
    if kind == "direction":
        return EditParams
    spec: type[EditSpec] = import_module("gan_core.edits.base").EDIT_KINDS.get(kind).spec
    return spec


def _check_edit(value: Any) -> Any:
    return edit_spec(value.get("kind", "direction")).model_validate(value) if isinstance(value, dict) else value


Edit = Annotated[SerializeAsAny[EditSpec], BeforeValidator(_check_edit)]


class CompositionSpec(Section):
    """One entry of the composition plan; ``operation`` says what is done (files in ``gan_core/compose/kinds``).

    ``sources`` are groups of keys; ``count`` more are drawn at random from ``seed``, ``group`` sources each (0: the
    fewest that the operation takes). ``name`` tells entries of one operation apart.
    """

    operation: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    sources: list[list[str]] = []
    count: Annotated[int, Field(ge=0)] = 0
    group: Annotated[int, Field(ge=0)] = 0
    seed: int = 0


def composition_spec(operation: Any) -> type[CompositionSpec]:
    """Return the section that an entry of this operation is checked by; raises ``ParamsError`` for an unknown one."""
    if not isinstance(operation, str):
        return CompositionSpec
    spec: type[CompositionSpec] = import_module("gan_core.compose.base").OPERATIONS.get(operation).spec
    return spec


def check_composition(value: Any) -> Any:
    """Turn a dictionary into the section of its operation; raises ``ParamsError`` for an unknown operation."""
    return composition_spec(value.get("operation")).model_validate(value) if isinstance(value, dict) else value


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
    pictures. Label maps have the classes 0 to ``classes`` - 1; the project's own have 13.
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
    factors: Annotated[list[Count], Field(min_length=1)] = [8]
    masks: Annotated[list[str], Field(min_length=1)] = ["box"]
    variants: list[Edit] = []


class PasteParams(Section):
    """Whether edited faces return into their photographs; ``feather``: the soft edge, as a share of the square."""

    enabled: bool = False
    feather: Annotated[float, Field(ge=0, le=0.5)] = 0.1


class MeasureParams(Section):
    """Which metrics are computed, and the sample that the distribution metrics use; ``swd_edits`` scores edits too."""

    metrics: list[str] = ["mse", "psnr", "lpips", "identity", "attributes", "fid", "swd"]
    swd_images: Count = 256
    swd_edits: bool = False


class TrackParams(Section):
    """Where runs are logged; an empty ``uri`` means the local ``sqlite:///mlflow.db``.

    ``system_metrics``: whether the machine's load is too; null: as ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING`` says.
    """

    experiment: str = "edit-dataset"
    uri: str = ""
    grid_rows: Count = 8
    system_metrics: bool | None = None


class Params(Section):
    """Everything in ``params.yaml``."""

    run: RunParams = RunParams()
    models: ModelPaths = ModelPaths()
    align: AlignParams = AlignParams()
    encode: EncodeParams = EncodeParams()
    tune: TuneParams = TuneParams()
    edits: list[Edit] = []
    compose: ComposeParams = ComposeParams()
    translate: TranslateParams = TranslateParams()
    paste: PasteParams = PasteParams()
    measure: MeasureParams = MeasureParams()
    track: TrackParams = TrackParams()
    portraits: PortraitsParams = PortraitsParams()
    sample: SampleParams = SampleParams()
    train_generator: TrainGeneratorParams = TrainGeneratorParams()
    train_cel: TrainCelParams = TrainCelParams()
    train_encoder: dict[str, TrainEncoderParams] = {}
    train_translation: dict[str, TrainTranslationParams] = {}
    train_identity: TrainMeasureParams = TrainMeasureParams()
    train_attributes: TrainMeasureParams = TrainMeasureParams()
    train_perceptual: TrainMeasureParams = TrainMeasureParams()
    train_landmarks: TrainMeasureParams = TrainMeasureParams()
    train_segmenter: TrainMeasureParams = TrainMeasureParams()
    directions: DirectionsParams = DirectionsParams()
    train_latent_edits: LatentEditsParams = LatentEditsParams()
    train_paths: PathsParams = PathsParams()
    train_digits: TrainDigitsParams = TrainDigitsParams()
    train_digit_paths: PathsParams = PathsParams(
        space="z", rank=None, reconstructor_size=32, attributes=["ink", "slant", "width"]
    )

    @model_validator(mode="after")
    def _name_encoder(self) -> Self:
        path = self.models.encoder.replace("{encoder}", self.encode.encoder)
        object.__setattr__(self, "models", self.models.model_copy(update={"encoder": path}))
        return self


def load_params(path: str | Path = "params.yaml", overrides: dict[str, Any] | None = None) -> Params:
    """Read and check ``path``, with ``overrides`` (nested, or dotted keys such as ``"tune.steps"``) laid over it.

    Raises ``ParamsError`` naming the path to the offending key, with near matches.
    """
    try:
        values = yaml.safe_load(Path(path).read_text()) or {}
    except FileNotFoundError:
        raise ParamsError(f"no parameter file at {path}: run from the project's folder or name one") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: sections and their keys are expected, not a {type(values).__name__}")
    for dotted, value in (overrides or {}).items():
        values = _merge(values, dotted.split("."), value)
    return check_params(values, str(path))


def check_params(values: dict[str, Any], where: str = "params") -> Params:
    """Validate a nested dictionary; raises ``ParamsError`` with one line for all its problems."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise ParamsError(f"{where}: " + "; ".join(_explain(e, values) for e in error.errors())) from None


def _merge(values: Any, keys: list[str], value: Any) -> dict[str, Any]:
    head, *rest = keys
    if not isinstance(values, dict):
        raise ParamsError(
            f"can't set {'.'.join(keys)} inside {values!r}: only sections have keys, lists are given whole"
        )
    if rest:
        return values | {head: _merge(values.get(head) or {}, rest, value)}
    if isinstance(value, dict) and isinstance(values.get(head), dict):
        for key, inner in value.items():
            values = values | {head: _merge(values[head], [key], inner)}
        return values
    return values | {head: value}


def _explain(error: Any, values: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{path}: {error['msg']} (got {error['input']!r})"
    *parents, key = error["loc"]
    return f"unknown key {path}{near_matches(str(key), _section(parents, values).model_fields)}"


def _section(path: list[str | int], values: Any) -> type[BaseModel]:
    model: Any = Params
    for part in path:
        values = values[part]
        if path[0] == "edits" or path[1:2] == ["variants"]:
            model = edit_spec(values.get("kind", "direction")) if isinstance(values, dict) else model
        elif isinstance(values, dict) and "operation" in values:
            model = composition_spec(values["operation"])
        elif isinstance(part, str):
            model = model.model_fields[part].annotation if hasattr(model, "model_fields") else get_args(model)[1]
    return model
