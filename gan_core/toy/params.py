"""Parameters of what is trained and of what that needs: ``portraits``, ``sample``, ``train_*``, ``directions``."""

from typing import Annotated, Any, Literal

from pydantic import Field

from gan_core.sections import Count, Positive, Precision, Section, Unit, Weight


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
    """The generator fine-tuned on cel-shaded portraits: mapping and modulation stay those of ``models.generator``.

    So do its first ``kept_layers`` (0: as published), which is where a translation takes over.
    ``adversarial_weight`` is that of the adversarial game beside the regression of pairs (0: none).
    """

    images: Count = 12_000
    kept_layers: Annotated[int, Field(ge=0)] = 6
    portraits: Count = 4_000
    discriminator_channels: dict[int, int] = {4: 128, 8: 128, 16: 64, 32: 32, 64: 16}
    batch_size: Count = 16
    lr: Positive = 2e-3
    discriminator_lr: Positive = 4e-3
    feature_weight: Weight = 3.0
    adversarial_weight: Weight = 0.2
    r1_gamma: Weight = 5.0
    r1_every: Count = 16
    ema_images: Count = 2_000
    precision: Precision = "fast"
    seed: int = 0


Term = Literal["l2", "perceptual", "l2_crop", "perceptual_crop", "identity", "w_norm", "latent", "delta", "adversarial"]


class TrainEncoderParams(Section):
    """One encoder on the toy portraits; ``losses`` weighs the terms of ``gan_core.toy.training.encoder_losses``.

    ``network`` holds the architecture's own sizes. The ``progressive`` numbers, in images, are e4e's schedule of
    stages (``every`` 0: all at once), the ``discriminator`` ones belong to the adversarial term: with a ``latent_pool``
    the discriminator learns from one latent of each image, half of them older; else from all of the batch.
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
    latent_pool: Annotated[int, Field(ge=0)] = 0
    precision: Precision = "fast"
    seed: int = 0


class TrainTranslationParams(TrainEncoderParams):
    """The encoder of one translation task; ``start``: from the weights of the inversion encoder where they fit.

    ``factors`` are what super-resolution reduces by, ``masks`` what inpainting hides.
    """

    start: bool = True
    factors: Annotated[list[Count], Field(min_length=1)] = [8]
    masks: Annotated[list[str], Field(min_length=1)] = ["box"]


class LatentEditsParams(Section):
    """The classifier of latents, and a block for each attribute of ``blocks`` that can be taken from a reference.

    A block learns by the classifier for ``block_steps``, then from pictures for ``picture_steps``.
    """

    samples: Annotated[int, Field(ge=64)] = 6_000
    hidden: Annotated[list[int], Field(min_length=1)] = [512, 128]
    embedding: Count = 32
    heads: Count = 4
    blocks: list[str] = ["smile", "yaw", "hair_lightness", "glasses"]
    batch_size: Count = 128
    classifier_steps: Count = 1_500
    block_steps: Count = 600
    picture_steps: Annotated[int, Field(ge=0)] = 250
    lr: Positive = 1e-3
    weight_decay: Weight = 0.0
    precision: Precision = "fast"
    seed: int = 0


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
    amounts are in standard deviations there. ``models`` holds arguments of single path models, by name. Strength 1
    moves an attribute by ``move`` of its range.
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
