"""Parameters of the toy world, read from ``toy.yaml``: its portraits, its sample, and the trainings of its models."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from gan_core.params import check_sections, load_sections
from gan_core.sections import Count, Positive, Precision, Section, Unit, Weight
from gan_core.toy.gan_params import TrainCelParams, TrainGeneratorParams
from gan_core.training.params import (
    DirectionsParams,
    LatentEditsParams,
    PathsParams,
    PathStudyParams,
    SinganStudyParams,
)
from gan_core.translation.tasks import Term

TOY_FILE = "toy.yaml"


class PortraitsParams(Section):
    """The toy portraits that the embedded models are trained on."""

    train_images: Count = 20_000
    seed: int = 1_000_000
    held_out_images: Count = 512
    held_out_seed: int = 9_000_000


class SampleParams(Section):
    """The sample dataset of the demo: portraits in the wild, with rows that must fail."""

    rows: Count = 128
    shards: Count = 4
    seed: int = 7_000_000


PYRAMID: dict[str, Any] = {"units": [1, 2, 4, 4], "width": 16, "input_size": 64}
RESTYLE: dict[str, Any] = PYRAMID | {"head_width": 48, "steps": 3}
FEATURES: dict[str, Any] = {
    **{"layer": 6, "input_size": 64, "strides": [1, 1], "units": 2, "hidden": 32},
    **{"aligner": [8, 16, 24, 32], "residue": [16, 24, 32]},
}
WITHOUT_IDENTITY: dict[Term, float] = {"l2": 1.0, "perceptual": 0.8, "w_norm": 0.005, "latent": 0.5}
WITH_IDENTITY: dict[Term, float] = {**WITHOUT_IDENTITY, "identity": 0.1}
INVERSION: dict[Term, float] = {**WITHOUT_IDENTITY, "identity": 0.2}


class TrainEncoderParams(Section):
    """One encoder on the toy portraits; ``losses`` weighs the terms of ``gan_core.toy.training.encoder_losses``.

    ``network`` holds the architecture's own sizes. The ``progressive`` numbers, in images, are e4e's schedule of
    stages (``every`` 0: all at once), the ``discriminator`` ones belong to the adversarial term: with a ``latent_pool``
    the discriminator learns from one latent of each image, half of them older; else from all of the batch.
    """

    network: dict[str, Any] = PYRAMID | {"head_width": 48}
    images: Count = 52_000
    latent_images: Annotated[int, Field(ge=0)] = 32_000
    batch_size: Annotated[int, Field(ge=4)] = 16
    optimiser: Literal["adamw", "ranger"] = "adamw"
    lr: Positive = 2e-3
    weight_decay: Weight = 0.0
    clip: Positive = 5.0
    ema_images: Positive = 4_000
    losses: dict[Term, Weight] = INVERSION
    progressive_start: Annotated[int, Field(ge=0)] = 0
    progressive_every: Annotated[int, Field(ge=0)] = 0
    discriminator_lr: Positive = 2e-4
    r1_gamma: Weight = 10.0
    latent_pool: Annotated[int, Field(ge=0)] = 0
    precision: Precision = "fast"
    seed: int = 0


class TrainHypernetworkParams(TrainEncoderParams):
    """A hypernetwork over the latents of ``encoder``; its offsets act at ``network["resolution"]`` and above."""

    network: dict[str, Any] = {"units": [2, 2, 2, 2], "width": 16, "input_size": 64, "steps": 3, "resolution": 32}
    latent_images: Annotated[int, Field(ge=0, le=0)] = 0
    lr: Positive = 5e-4
    precision: Precision = "exact"
    losses: dict[Term, Weight] = {"l2": 1.0, "perceptual": 0.8, "identity": 0.2}
    encoder: str = "psp-w"


class TrainFeaturesParams(TrainHypernetworkParams):
    """A feature network over the latents of ``encoder``.

    Residuals are distorted by a ``perspective`` that moves each corner inwards by up to this share of half a side.
    """

    network: dict[str, Any] = FEATURES
    images: Count = 20_000
    lr: Positive = 2e-3
    precision: Precision = "fast"
    losses: dict[Term, Weight] = {"l2": 1.0, "perceptual": 0.8, "identity": 0.2, "alignment": 0.1}
    encoder: str = "psp"
    perspective: Unit = 0.15


class TrainTranslationParams(TrainEncoderParams):
    """The encoder of one translation task; ``start``: from the weights of the inversion encoder where they fit.

    ``factors`` are what super-resolution reduces by, ``masks`` what inpainting hides.
    """

    images: Count = 16_000
    latent_images: Annotated[int, Field(ge=0)] = 8_000
    losses: dict[Term, Weight] = WITH_IDENTITY
    start: bool = True
    factors: Annotated[list[Count], Field(min_length=1)] = [8]
    masks: Annotated[list[str], Field(min_length=1)] = ["box"]


class TrainPix2PixParams(Section):
    """pix2pixHD on the pairs of a translation task, pSp's rival: Adam with ``beta1`` .5, least-squares game.

    ``network`` and ``discriminator`` hold their sizes (``gan_core.translation.pix2pix``). The weights are the published
    ones; the perceptual loss is LPIPS, as for the encoders.
    """

    network: dict[str, int] = {"width": 16, "downs": 3, "blocks": 9}
    discriminator: dict[str, int] = {"width": 16, "layers": 3, "scales": 2}
    images: Count = 16_000
    batch_size: Count = 16
    lr: Positive = 5e-4
    discriminator_lr: Positive = 5e-4
    feature_weight: Weight = 10.0
    perceptual_weight: Weight = 10.0
    ema_images: Positive = 4_000
    precision: Precision = "fast"
    seed: int = 0


class StudiedEncoderParams(TrainEncoderParams):
    """One encoder of a study, of the registered ``architecture``; ``images`` and ``seed`` are the study's."""

    architecture: str = "psp"


class EncoderStudyParams(Section):
    """Encoders learnt from several ``seeds``, measured over held-out ``portraits`` after each number of ``images``.

    Rates stay what they are after the warm-up, so that any training can go on to more images; those of ``further`` do,
    to the numbers that they have there.
    """

    encoders: Annotated[dict[str, StudiedEncoderParams], Field(min_length=1)]
    seeds: Annotated[list[int], Field(min_length=1)] = [0, 1, 2]
    images: Annotated[list[Count], Field(min_length=1)] = [50_000, 100_000]
    further: dict[str, list[Count]] = {"psp": [200_000], "style-transformer": [200_000]}
    portraits: Count = 512

    @model_validator(mode="after")
    def _check_further(self) -> Self:
        if unknown := self.further.keys() - self.encoders.keys():
            raise ValueError(f"further: {', '.join(sorted(unknown))} is not among encoders: {', '.join(self.encoders)}")
        return self

    def last_of(self, encoder: str) -> int:
        """Return how many images an encoder sees in all."""
        return max([*self.images, *self.further.get(encoder, [])])


class TranslationStudyParams(Section):
    """pSp and its rival on each of ``tasks``, with the losses of ``train_translation``; else as ``EncoderStudyParams``.

    ``latent_images`` and ``ema_images`` are those of all these trainings.
    """

    tasks: Annotated[list[str], Field(min_length=1)] = ["frontalisation", "sketch", "segmentation"]
    seeds: Annotated[list[int], Field(min_length=1)] = [0, 1, 2]
    images: Annotated[list[Count], Field(min_length=1)] = [16_000, 32_000]
    portraits: Count = 256
    latent_images: Annotated[int, Field(ge=0)] = 8_000
    ema_images: Positive = 40_000
    pix2pix: TrainPix2PixParams = TrainPix2PixParams(ema_images=40_000)


class TrainMeasureParams(Section):
    """The toy networks that measure: one budget for each; ``rendered`` pictures are drawn for this network alone."""

    images: Count = 112_000
    rendered: Count = 1_200
    batch_size: Count = 64
    lr: Positive = 1e-3
    width: Count = 32
    precision: Precision = "fast"
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


class TrainShapesParams(Section):
    """SNGAN's network, taught what the renderer of shapes draws of each latent: squared error, averaged weights."""

    channels: list[int] = [64, 48, 32, 16]
    steps: Count = 6000
    batch_size: Count = 32
    lr: Positive = 4e-3
    ema_steps: Count = 100
    precision: Precision = "fast"
    seed: int = 0


IN_DOMAIN: dict[str, Any] = {"input_size": 64, "widths": [16, 32, 64, 128, 128]}
ALAE: dict[str, Any] = {"input_size": 64, "widths": [16, 32, 64, 128, 128, 128]}
ENCODERS = {
    "psp": TrainEncoderParams(),
    "e4e": TrainEncoderParams(
        losses={**INVERSION, "delta": 2e-4, "adversarial": 0.1}, progressive_start=32_000, progressive_every=1_000
    ),
    "style-transformer": TrainEncoderParams(network={**PYRAMID, "heads": 4}),
    "psp-w": TrainEncoderParams(network=PYRAMID),
    "psp-w-plus": TrainEncoderParams(network=PYRAMID),
    "restyle-psp": TrainEncoderParams(network=RESTYLE),
    "restyle-e4e": TrainEncoderParams(
        network=RESTYLE,
        losses={**INVERSION, "delta": 2e-4, "adversarial": 0.1},
        progressive_start=32_000,
        progressive_every=1_000,
    ),
    "idinvert": TrainEncoderParams(network=IN_DOMAIN),
    "alae": TrainEncoderParams(network=ALAE),
}
WIDE: dict[str, Any] = {**PYRAMID, "head_width": 128}
"""As published, heads are as wide as styles: .76 of pSp's parameters (published: .85) and half of its time.

With 48 channels, as shipped, they are .41 and a quarter.
"""
STUDIED: dict[str, Any] = {"ema_images": 40_000}
"""An average over a tenth of what was seen, whatever that is, in the place of a rate that falls."""
STUDIED_ENCODERS = {
    "psp": StudiedEncoderParams(network=WIDE, **STUDIED),
    "e4e": StudiedEncoderParams(
        architecture="e4e",
        network=WIDE,
        losses={**INVERSION, "delta": 2e-4, "adversarial": 0.1},
        progressive_start=32_000,
        progressive_every=1_000,
        latent_pool=50,
        **STUDIED,
    ),
    "style-transformer": StudiedEncoderParams(
        architecture="style-transformer", network={**PYRAMID, "heads": 4}, **STUDIED
    ),
    "psp-w-plus": StudiedEncoderParams(architecture="psp-w-plus", network=PYRAMID, **STUDIED),
    "psp-without-identity": StudiedEncoderParams(network=WIDE, losses=WITHOUT_IDENTITY, **STUDIED),
    "idinvert": StudiedEncoderParams(architecture="idinvert", network=IN_DOMAIN, **STUDIED),
    "alae": StudiedEncoderParams(architecture="alae", network=ALAE, **STUDIED),
}
FRONTALISATION: dict[Term, float] = {
    **{"l2": 0.001, "perceptual": 0.08, "l2_crop": 0.01, "perceptual_crop": 0.8},
    **{"identity": 1.0, "w_norm": 0.005, "latent": 0.5},
}
TRANSLATIONS = {
    "frontalisation": TrainTranslationParams(losses=FRONTALISATION),
    "sketch": TrainTranslationParams(losses=WITHOUT_IDENTITY),
    "segmentation": TrainTranslationParams(losses=WITHOUT_IDENTITY),
    "super-resolution": TrainTranslationParams(factors=[2, 4, 8, 16, 32]),
    "inpainting": TrainTranslationParams(masks=["box", "centre", "half", "strokes"]),
    "toonify": TrainTranslationParams(
        latent_images=0, losses={"l2": 1.0, "perceptual": 0.8, "identity": 0.1, "latent": 5.0}
    ),
}


DIGIT_PATHS = PathsParams(
    space="z",
    rank=None,
    batch_size=32,
    reconstructor_size=32,
    rank_codes=64,
    attributes=["ink", "slant", "width"],
    move=0.3,
)
SHAPE_PATHS = DIGIT_PATHS.model_copy(update={"attributes": ["x", "y", "turn", "hue", "size"], "move": 0.25})
FAST_PATHS = {"moves_per_code": 4, "precision": "fast", "models": {"curvilinear": {"steps": 4}}}
FAST_PORTRAIT_PATHS = FAST_PATHS | {"batch_size": 32, "drawn_size": 32, "lr": 2e-3, "path_lr": 2e-3}
FAST_SHAPE_PATHS = FAST_PATHS | {"batch_size": 128, "lr": 2e-3, "path_lr": 2e-3}
FAST_DIGIT_PATHS = FAST_SHAPE_PATHS | {"reconstructor_channels": 1}
"""What makes a move of a long training cheap, and rates that grow with the root of the batch; digits are grey."""
STUDIED_MOVES = [19_200, 38_400, 76_800, 153_600, 307_200, 614_400, 921_600, 1_228_800, 1_843_200, 2_400_000]
"""The first is what the paths that the project keeps have learnt from, the last what the publication used."""
STUDIED_SHAPE_MOVES = [19_200 * 2**doubled for doubled in range(7)]
"""Up to half of the publication's number."""


class ToyParams(Section):
    """Everything in ``toy.yaml``; a section that is stated in part has its own defaults for the rest."""

    portraits: PortraitsParams = PortraitsParams()
    sample: SampleParams = SampleParams()
    train_generator: TrainGeneratorParams = TrainGeneratorParams()
    train_cel: TrainCelParams = TrainCelParams()
    train_encoder: dict[str, TrainEncoderParams] = ENCODERS
    train_hypernetwork: TrainHypernetworkParams = TrainHypernetworkParams()
    train_features: TrainFeaturesParams = TrainFeaturesParams()
    train_translation: dict[str, TrainTranslationParams] = TRANSLATIONS
    train_identity: TrainMeasureParams = TrainMeasureParams()
    train_attributes: TrainMeasureParams = TrainMeasureParams(width=24)
    train_judge: TrainMeasureParams = TrainMeasureParams(width=32, seed=1)
    train_perceptual: TrainMeasureParams = TrainMeasureParams(images=40_000, lr=2e-3)
    train_landmarks: TrainMeasureParams = TrainMeasureParams(images=80_000, width=16)
    train_segmenter: TrainMeasureParams = TrainMeasureParams(images=40_000, batch_size=32, lr=2e-3, width=16)
    directions: DirectionsParams = DirectionsParams()
    train_latent_edits: LatentEditsParams = LatentEditsParams()
    train_paths: PathsParams = PathsParams()
    train_digits: TrainDigitsParams = TrainDigitsParams()
    train_digit_paths: PathsParams = DIGIT_PATHS
    train_shapes: TrainShapesParams = TrainShapesParams()
    train_shape_reader: TrainMeasureParams = TrainMeasureParams(images=128_000, lr=3e-3, width=8)
    study_paths: PathStudyParams = PathStudyParams(paths=PathsParams().model_copy(update=FAST_PORTRAIT_PATHS))
    study_digit_paths: PathStudyParams = PathStudyParams(
        moves=STUDIED_MOVES, paths=DIGIT_PATHS.model_copy(update=FAST_DIGIT_PATHS)
    )
    study_shape_paths: PathStudyParams = PathStudyParams(
        moves=STUDIED_SHAPE_MOVES, paths=SHAPE_PATHS.model_copy(update=FAST_SHAPE_PATHS)
    )
    study_encoders: EncoderStudyParams = EncoderStudyParams(encoders=STUDIED_ENCODERS)
    study_translations: TranslationStudyParams = TranslationStudyParams()
    study_singan: SinganStudyParams = SinganStudyParams()

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Sections of one class differ in their defaults, so the class alone can't fill them in."""
        if not isinstance(values, dict):
            return values
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {name: _completed(defaults.get(name), value) for name, value in values.items()}


def _completed(default: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if isinstance(default, dict):
        return {name: _completed(default.get(name), section) for name, section in value.items()}
    return dict(default) | value if isinstance(default, Section) else value


def load_toy_params(path: str | Path = TOY_FILE, overrides: dict[str, Any] | None = None) -> ToyParams:
    """Read and check ``path`` as ``load_params`` does ``params.yaml``; raises ``ParamsError``.

    A project that was made from the package has no ``toy.yaml``: all values are the defaults then.
    """
    if path == TOY_FILE and not Path(path).exists():
        return check_sections(ToyParams, {}, TOY_FILE, overrides)
    return load_sections(ToyParams, path, overrides)
