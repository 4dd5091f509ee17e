"""Parameters of the trainings of the toy generators, sections of ``toy.yaml``."""

from typing import Annotated

from pydantic import Field, field_validator

from gan_core.sections import Count, Positive, Precision, Section, Unit, Weight
from gan_core.toy.renderer.canvas import SEGMENTATION_LABELS

FACE_FEATURES = ("left_eye", "right_eye", "brows", "nose", "mouth", "teeth", "glasses")

GROUP = 4
"""Pictures that the discriminator looks at together, as published (``append_minibatch_deviation``)."""


class FeatureParams(Section):
    """What small features of a portrait weigh in the loss of pairs, beside the 1 of every pixel.

    Weights are by label of the renderer's segmentation, and hold up to ``feature_reach`` pixels from it.
    """

    feature_weights: dict[str, Weight] = {}
    feature_reach: Annotated[int, Field(ge=0)] = 1

    @field_validator("feature_weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        if unknown := set(weights) - set(SEGMENTATION_LABELS):
            raise ValueError(f"no label {', '.join(sorted(unknown))}: the labels are {', '.join(SEGMENTATION_LABELS)}")
        return weights


class GameParams(FeatureParams):
    """What the trainings of both generators share: the loss of pairs, and StyleGAN2's discriminator.

    ``batch_size`` is up to 4, or a multiple of it: the discriminator looks at groups of 4 pictures.
    """

    discriminator_channels: dict[int, int] = {4: 128, 8: 128, 16: 64, 32: 32, 64: 16}
    batch_size: Count = 16
    r1_gamma: Weight = 2.0
    r1_every: Count = 16
    precision: Precision = "fast"
    seed: int = 0

    @field_validator("batch_size")
    @classmethod
    def _in_groups(cls, size: int) -> int:
        if size > GROUP and size % GROUP:
            raise ValueError(f"{size} is neither up to {GROUP} nor a multiple of it, as the discriminator needs")
        return size


class TrainGeneratorParams(GameParams):
    """StyleGAN2 on the toy portraits (Karras et al. 2020): paired warm-up, then the adversarial game."""

    size: Count = 64
    style_dim: Count = 128
    n_mlp: Count = 4
    channels: dict[int, int] = {4: 192, 8: 192, 16: 128, 32: 64, 64: 32}
    feature_weights: dict[str, Weight] = dict.fromkeys(FACE_FEATURES, 4.0) | {"brows": 20.0}
    feature_reach: Annotated[int, Field(ge=0)] = 3
    paired_images: int = 220_000
    paired_lr: Positive = 8e-3
    adversarial_images: int = 50_000
    lr: Positive = 5e-4
    discriminator_lr: Positive = 2e-3
    pair_weight: Weight = 20.0
    perceptual_weight: Weight = 2.0
    path_length_weight: Weight = 2.0
    path_length_every: Count = 8
    mixing: Unit = 0.25
    ema_images: Count = 3_000


class TrainCelParams(GameParams):
    """The generator fine-tuned on cel-shaded portraits: mapping and modulation stay those of ``models.generator``.

    So do its first ``kept_layers`` (0: as published), which is where a translation takes over.
    ``adversarial_weight`` is that of the adversarial game beside the regression of pairs (0: none).
    """

    feature_weights: dict[str, Weight] = dict.fromkeys(FACE_FEATURES, 3.0)
    images: Count = 12_000
    kept_layers: Annotated[int, Field(ge=0)] = 6
    portraits: Count = 4_000
    lr: Positive = 2e-3
    discriminator_lr: Positive = 4e-3
    adversarial_weight: Weight = 0.2
    r1_gamma: Weight = 5.0
    ema_images: Count = 2_000
