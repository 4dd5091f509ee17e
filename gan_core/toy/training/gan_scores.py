"""How far a generator's pictures are from held-out portraits, while it is trained."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gan_core.device import fetch, place
from gan_core.generators.base import Generator
from gan_core.judges.extractors import EXTRACTORS
from gan_core.metrics.base import State
from gan_core.metrics.frechet import FrechetInceptionDistance, frechet_distance, gather
from gan_core.params import ModelPaths
from gan_core.toy.training.portraits import PortraitSet

EXTRACTOR = "toy-attr"
BATCH = 64


def held_out_distance(
    portraits: PortraitSet, models: ModelPaths, images: int = 2048
) -> Callable[[Generator], dict[str, float]]:
    """Return a function that gives ``fid/toy-attr`` of ``images`` untruncated pictures against all of ``portraits``.

    Raises ``CheckpointError`` while the attribute network is not there.
    """
    features = EXTRACTORS.get(EXTRACTOR)(models).features
    real = _statistics(features, lambda rows: place(portraits.images(rows)), len(portraits))

    @torch.no_grad()
    def score(generator: Generator) -> dict[str, float]:
        z = place(torch.randn(images, generator.z_dim, generator=torch.Generator().manual_seed(0)))
        made = _statistics(
            features, lambda rows: generator.synthesis(generator.broadcast(generator.mapping(z[rows]))), images
        )
        return {f"fid/{EXTRACTOR}": frechet_distance(real, made)}

    return score


@torch.no_grad()
def _statistics(features: Callable[[Tensor], Tensor], pictures: Callable[[np.ndarray], Tensor], count: int) -> State:
    parts = (np.arange(start, min(start + BATCH, count)) for start in range(0, count, BATCH))
    states = [gather(fetch(features(pictures(rows).clamp(-1, 1)))) for rows in parts]
    total = states[0]
    for state in states[1:]:
        total = FrechetInceptionDistance.merge(total, state)
    return total
