"""Blend two sources in one image, and extend one source to twice its length."""

from typing import Literal

from torch import Tensor

from gan_core.checkpoints.files import Loaded
from gan_core.compose.base import OPERATIONS, Drawing, Operation, branch
from gan_core.compose.operations import Stretch, extend, interpolate, join
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import Axis
from gan_core.params import CompositionSpec, ModelPaths


class InterpolateSpec(CompositionSpec):
    """One source blends into another."""

    operation: Literal["interpolate"] = "interpolate"
    axis: Axis = "vertical"
    """From top to bottom, or from left to right."""
    extended: bool = False
    """In a picture of double length instead of within a square."""


@OPERATIONS.register("interpolate")
class Interpolate(Operation[InterpolateSpec]):
    """Blends one source into the other, from top to bottom or from left to right."""

    spec = InterpolateSpec

    def __init__(self, spec: InterpolateSpec, models: ModelPaths, generator: Loaded[StyleGAN2]) -> None:
        self.axis, self.mix = spec.axis, join if spec.extended else interpolate

    def draw(self, generator: StyleGAN2, w_plus: Tensor) -> Drawing:
        return Drawing(self.mix(branch(generator, w_plus[0]), branch(generator, w_plus[1]), self.axis))


class ExtendSpec(CompositionSpec):
    """One source is extended to twice its length."""

    operation: Literal["extend"] = "extend"
    axis: Axis = "horizontal"
    """Wider, or higher."""
    mode: Stretch = "stretch"
    """How features are enlarged after the block of 8 pixels."""


@OPERATIONS.register("extend")
class Extend(Operation[ExtendSpec]):
    """Extends one source to twice its width or height."""

    spec = ExtendSpec
    fewest = most = 1

    def __init__(self, spec: ExtendSpec, models: ModelPaths, generator: Loaded[StyleGAN2]) -> None:
        self.axis, self.mode = spec.axis, spec.mode

    def draw(self, generator: StyleGAN2, w_plus: Tensor) -> Drawing:
        return Drawing(extend(branch(generator, w_plus[0]), self.mode, self.axis))
