"""A hypernetwork on the toy portraits, by the loop of the encoders: what it draws is compared, latents are given."""

from pathlib import Path

from torch import Tensor

from gan_core.encoders.base import Encoder
from gan_core.generators.base import Generator
from gan_core.inversion.hypernetwork import HyperStyle
from gan_core.params import Params
from gan_core.toy.params import TrainHypernetworkParams
from gan_core.toy.training.over_encoder import OverEncoder, make_over
from gan_core.training.log import Report


class Refined(OverEncoder):
    """A frozen encoder and the hypernetwork that is trained over it."""

    name = "hyperstyle"

    def __init__(self, encoder: Encoder, generator: Generator, **network: object) -> None:
        self.hypernetwork: HyperStyle
        super().__init__(encoder, "hypernetwork", HyperStyle.for_generator(generator, **network))
        self.input_shape = self.hypernetwork.input_shape

    def inversions(self, images: Tensor, generator: Generator, fast: bool = False) -> list[tuple[Tensor, Tensor]]:
        latents = self.encode_first(images)
        steps = self.hypernetwork.passes(generator, self.resampled(images), latents, fast)
        return [(latents, self.frame(drawn)) for _, drawn in steps]


def make_hypernetwork(
    chosen: TrainHypernetworkParams, params: Params, folder: Path, report: Report
) -> dict[str, float]:
    """Train a hypernetwork, or go on in ``folder``; store it, and return its scores on the held-out portraits."""
    return make_over(Refined, chosen, params, folder, report, params.models.hypernetwork)
