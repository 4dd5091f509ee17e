"""Parameters of every flow and stage, read from ``params.yaml``: one file for DVC, Prefect and the library."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError

from gan_core.errors import ParamsError, near_matches

Unit = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["exact", "fast"]


class Section(BaseModel):
    """A part of the parameters; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunParams(Section):
    """How a run is executed; nothing here may change a result, except ``precision``."""

    workers: Count = 2
    batch_size: Count = 32
    precision: Precision = "exact"
    runner: Literal["threads", "processes", "dask"] = "threads"
    dask_address: str = ""
    deployment: str = ""
    shards_per_batch: Count = 8


class ModelPaths(Section):
    """Checkpoints, as paths or fsspec URLs."""

    generator: str = "data/models/generator.safetensors"
    encoder: str = "data/models/encoder.safetensors"
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
    ``persist`` says what is kept of a tuned generator: a quantised difference, a float32 one (``full``), or nothing, and
    the tune stage draws the edits itself. With ``shared`` the rows of a batch share one generator.
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
    """One entry of the edit plan; ``kind`` says what is done (one file each in ``gan_core/editing/kinds``)."""

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
    spec: type[EditSpec] = import_module("gan_core.editing.kinds.base").EDIT_KINDS.get(kind).spec
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
    ``masks``, drawn from the label maps in ``labels``), else the inputs themselves, and ``truth`` may name the pictures.
    ``variants`` are edits of the latents, such as style mixing. An empty ``encoder`` means the project's own.
    """

    task: str = "super-resolution"
    encoder: str = ""
    align: bool = False
    column: str = "image"
    made: bool = True
    truth: str = ""
    labels: str = "labels"
    factors: Annotated[list[Count], Field(min_length=1)] = [8]
    masks: Annotated[list[str], Field(min_length=1)] = ["box"]
    variants: list[Edit] = []


class PasteParams(Section):
    """Whether edited faces return into their photographs; ``feather``: the soft edge, as a share of the square."""

    enabled: bool = False
    feather: Annotated[float, Field(ge=0, le=0.5)] = 0.1


class MeasureParams(Section):
    """Which metrics are computed, and the sample that the distribution metrics use."""

    metrics: list[str] = ["mse", "psnr", "lpips", "identity", "attributes", "fid", "swd"]
    swd_images: Count = 256


class TrackParams(Section):
    """Where runs are logged; an empty ``uri`` means the local ``sqlite:///mlflow.db``."""

    experiment: str = "edit-dataset"
    uri: str = ""
    grid_rows: Count = 8


class PortraitsParams(Section):
    """The toy portraits that the embedded models are trained on."""

    train_images: Count = 24_000
    seed: int = 1_000_000
    held_out_images: Count = 512
    held_out_seed: int = 9_000_000


class SampleParams(Section):
    """The sample dataset of the demo: portraits in the wild, with rows that must fail."""

    rows: Count = 128
    shards: Count = 4
    seed: int = 7_000_000


class TrainGeneratorParams(Section):
    """StyleGAN2 on the toy portraits (Karras et al. 2020): paired warm-up, then the adversarial game."""

    size: Count = 64
    style_dim: Count = 128
    n_mlp: Count = 4
    channels: dict[int, int] = {4: 128, 8: 128, 16: 96, 32: 64, 64: 32}
    discriminator_channels: dict[int, int] = {4: 128, 8: 128, 16: 64, 32: 32, 64: 16}
    batch_size: Count = 32
    paired_images: int = 400_000
    paired_lr: Positive = 2e-3
    adversarial_images: int = 100_000
    lr: Positive = 5e-4
    discriminator_lr: Positive = 4e-3
    pair_weight: Weight = 3.0
    feature_weight: Weight = 4.0
    r1_gamma: Weight = 0.2
    r1_every: Count = 16
    path_length_weight: Weight = 2.0
    path_length_every: Count = 8
    mixing: Unit = 0.5
    ema_images: Count = 10_000
    precision: Precision = "fast"
    seed: int = 0


class TrainCelParams(Section):
    """The generator fine-tuned on cel-shaded portraits: mapping and modulation stay those of ``models.generator``."""

    images: Count = 24_000
    portraits: Count = 4_000
    batch_size: Count = 16
    lr: Positive = 2e-3
    feature_weight: Weight = 3.0
    ema_images: Count = 2_000
    precision: Precision = "fast"
    seed: int = 0


Term = Literal[
    "l2", "perceptual", "l2_crop", "perceptual_crop", "identity", "w_norm", "latent", "delta", "adversarial"
]


class TrainEncoderParams(Section):
    """One encoder on the toy portraits; ``losses`` weighs the terms of ``gan_core.training.encoder_losses``.

    ``network`` holds the architecture's own sizes. The ``progressive`` numbers, in images, are e4e's schedule of
    stages (``every`` 0: all at once), the ``discriminator`` ones belong to the adversarial term.
    """

    network: dict[str, Any] = {"units": [1, 2, 3, 2], "width": 24, "input_size": 64}
    images: Count = 22_000
    latent_images: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=4)] = 16
    optimiser: Literal["adamw", "ranger"] = "adamw"
    lr: Positive = 2e-3
    weight_decay: Weight = 0.0
    clip: Positive = 5.0
    ema_images: Positive = 4_000
    losses: dict[Term, Weight] = {"l2": 1.0, "perceptual": 0.8, "identity": 0.1, "w_norm": 0.005, "latent": 0.5}
    progressive_start: Annotated[int, Field(ge=0)] = 0
    progressive_every: Annotated[int, Field(ge=0)] = 0
    discriminator_lr: Positive = 2e-4
    r1_gamma: Weight = 10.0
    precision: Precision = "fast"
    seed: int = 0


class LatentEditsParams(Section):
    """The classifier of latents, and a block for each attribute of ``blocks`` that can be taken from a reference."""

    samples: Annotated[int, Field(ge=64)] = 6_000
    hidden: Annotated[list[int], Field(min_length=1)] = [512, 128]
    embedding: Count = 32
    heads: Count = 4
    blocks: list[str] = ["smile", "yaw", "hair_lightness", "glasses"]
    batch_size: Count = 128
    classifier_steps: Count = 1_500
    block_steps: Count = 600
    lr: Positive = 1e-3
    weight_decay: Weight = 0.0
    seed: int = 0


class TrainTranslationParams(TrainEncoderParams):
    """The encoder of one translation task; ``start``: from the weights of the inversion encoder where they fit.

    ``factors`` are what super-resolution reduces by, ``masks`` what inpainting hides.
    """

    start: bool = True
    factors: Annotated[list[Count], Field(min_length=1)] = [8]
    masks: Annotated[list[str], Field(min_length=1)] = ["box"]


class TrainMeasureParams(Section):
    """The toy networks that measure: one budget for each; ``rendered`` pictures are drawn for this network alone."""

    images: Count = 150_000
    rendered: Count = 12_000
    batch_size: Count = 64
    lr: Positive = 1e-3
    width: Count = 32
    precision: Precision = "fast"
    seed: int = 0


class DirectionsParams(Section):
    """Linear directions fitted on labelled samples of the generator; strength 1 moves by ``move`` of the range."""

    samples: Count = 8_000
    attributes: list[str] = ["smile", "yaw", "hair_lightness"]
    move: Annotated[float, Field(gt=0, lt=1)] = 0.5
    refine_steps: Annotated[int, Field(ge=0)] = 150
    seed: int = 0


class PathsParams(Section):
    """Paths learnt without labels (``gan_core.paths``), then named after the attributes that they change.

    They run through ``space`` of the generator, in its ``rank`` leading principal axes (the whole space for null);
    amounts are in standard deviations there. ``models`` holds arguments of single path models, by name. Strength 1 moves
    an attribute by ``move`` of its range.
    """

    space: str = "w"
    rank: Count | None = 16
    count: Count | None = None
    models: dict[str, dict[str, Any]] = {}
    steps: Count = 600
    batch_size: Count = 8
    lr: Positive = 1e-3
    path_lr: Positive = 1e-3
    amounts: tuple[Positive, Positive] = (0.5, 3.0)
    amount_weight: Weight = 0.25
    volume_weight: Weight = 1.0
    reconstructor: str = "lenet"
    reconstructor_size: Count | None = None
    rank_codes: Count = 24
    attributes: list[str] = ["smile", "yaw", "hair_lightness", "hair_length"]
    move: Annotated[float, Field(gt=0, lt=1)] = 0.5
    seed: int = 0


class TrainDigitsParams(Section):
    """A small SNGAN on scikit-learn's digits (Miyato et al. 2018): hinge loss, spectral norm, averaged weights."""

    channels: list[int] = [48, 32, 32]
    z_dim: Count = 16
    steps: Count = 1500
    batch_size: Count = 32
    lr: Positive = 4e-4
    ema_steps: Count = 200
    seed: int = 0


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
