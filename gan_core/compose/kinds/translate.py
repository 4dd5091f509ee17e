"""Translate a source to the style of a second generator."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from gan_core.checkpoints.files import Loaded
from gan_core.compose.base import OPERATIONS, Drawing, Operation, branch, load_second
from gan_core.compose.operations import check_layouts, translate
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.params import CompositionSpec, ModelPaths
from gan_core.sections import Unit


class TranslateSpec(CompositionSpec):
    """A source in the style of `models.second_generator`."""

    operation: Literal["translate"] = "translate"
    alphas: list[Unit] = Field(default=[0.7], min_length=1)
    """Shares of the second generator; each gives one picture, side by side."""
    kept_layers: Annotated[int, Field(ge=0)] = 8
    """First layers whose style is the source's. Published is 6; with 8 a smile is kept in any style."""


@OPERATIONS.register("translate")
class Translate(Operation[TranslateSpec]):
    """Draws the source with the second generator by degrees, in its own style or in that of the second source."""

    spec = TranslateSpec
    fewest = 1

    def __init__(self, spec: TranslateSpec, models: ModelPaths, generator: Loaded[StyleGAN2]) -> None:
        self.chosen = spec
        self.second = load_second(models.second_generator, generator)

    def draw(self, generator: StyleGAN2, w_plus: Tensor) -> Drawing:
        source, reference = branch(generator, w_plus[0]), branch(self.second.model, w_plus[-1])
        check_layouts(source, reference)
        kept = min(self.chosen.kept_layers, len(source.steps))
        images = [translate(source, reference, alpha, kept) for alpha in self.chosen.alphas]
        return Drawing(torch.cat(images, 3), one_scene=len(images) == 1)

    def files(self) -> dict[str, str]:
        return {"second_generator": self.second.sha256}
