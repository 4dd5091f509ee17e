"""Panoramas of any number of sources."""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from gan_core.checkpoints.files import Loaded
from gan_core.compose.base import OPERATIONS, Drawing, Operation
from gan_core.compose.panorama import MOST_SMOOTHING, SIGMA, joins_of, panorama, seam_score, smooth
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import Axis
from gan_core.params import CompositionSpec, ModelPaths


class PanoramaSpec(CompositionSpec):
    """All sources in one scene."""

    operation: Literal["panorama"] = "panorama"
    axis: Axis = "horizontal"
    """Beside each other, or below each other."""
    smoothing: Annotated[float, Field(ge=0, le=MOST_SMOOTHING)] = SIGMA
    """Sigma along the codes; 0: none, with visible seams."""
    wrap: bool = False
    """The last source goes over into the first."""


@OPERATIONS.register("panorama")
class Panorama(Operation[PanoramaSpec]):
    """Joins all sources in one scene, pair by pair; the length of the image is proportional to their number."""

    spec = PanoramaSpec
    most = None
    scores = ("seam",)

    def __init__(self, spec: PanoramaSpec, models: ModelPaths, generator: Loaded[StyleGAN2]) -> None:
        self.chosen = spec

    def draw(self, generator: StyleGAN2, w_plus: Tensor) -> Drawing:
        codes = smooth(w_plus, self.chosen.smoothing, generator.latent_avg) if self.chosen.smoothing else w_plus
        image = panorama(generator, codes, self.chosen.axis, self.chosen.wrap)
        joins = joins_of(len(codes), generator.size, self.chosen.wrap)
        return Drawing(image, {"seam": seam_score(image, joins, self.chosen.axis)})
