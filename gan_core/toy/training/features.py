"""A feature network on the toy portraits, by the loop of the encoders: what an encoder's picture lacks is put back."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.encoders.base import Encoder
from gan_core.generators.base import Generator
from gan_core.inversion.features import HFGI
from gan_core.params import Params
from gan_core.precision import autocast
from gan_core.toy.params import TrainFeaturesParams
from gan_core.toy.training.over_encoder import OverEncoder, make_over
from gan_core.toy.training.portraits import PortraitSet
from gan_core.toy.training.reconstruction import Batch, TrainingTask
from gan_core.training.log import Report

DISTORTED = 0.9
"""The share of residuals that are distorted, as published."""
CORNERS = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


class FeatureTask(TrainingTask):
    """Batches with a perspective for each residual: it is distorted, and the aligner has to bring it back.

    An encoder's input is a picture and, behind it, the two channels of places that its residual is sampled at.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def draw(
        self, portraits: PortraitSet, generator: Generator, size: int, sampled: int, stream: torch.Generator
    ) -> Batch:
        batch = super().draw(portraits, generator, size, sampled, stream)
        grids = perspectives(size, batch.images.shape[-1], self.strength, stream).to(batch.images)
        return Batch(batch.images, batch.w, torch.cat([batch.images, grids.permute(0, 3, 1, 2)], 1))

    def visible(self, inputs: Tensor) -> Tensor:
        return inputs[:, :3]


def perspectives(count: int, side: int, strength: float, stream: torch.Generator) -> Tensor:
    """Return places ``[count, side, side, 2]`` in [-1, 1] of random perspectives, as ``grid_sample`` reads them.

    Each corner moves inwards by up to ``strength`` of half the side, in both directions; one in ten pictures stays.
    """
    moves = torch.rand(count, 4, 2, generator=stream) * strength
    moves *= torch.rand(count, 1, 1, generator=stream) < DISTORTED
    ends = CORNERS * (1 - moves)
    matrices = homographies(ends, CORNERS.expand(count, -1, -1))
    axis = (torch.arange(side) * 2 + 1) / side - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], -1) @ matrices[:, None].mT
    return places[..., :2] / places[..., 2:]


def homographies(source: Tensor, target: Tensor) -> Tensor:
    """Return the matrices ``[B, 3, 3]`` that take points ``source [B, 4, 2]`` to ``target [B, 4, 2]``."""
    (x, y), (u, v) = source.unbind(-1), target.unbind(-1)
    one, none = torch.ones_like(x), torch.zeros_like(x)
    rows_u = torch.stack([x, y, one, none, none, none, -u * x, -u * y], -1)
    rows_v = torch.stack([none, none, none, x, y, one, -v * x, -v * y], -1)
    values = torch.linalg.solve(torch.cat([rows_u, rows_v], 1).double(), torch.cat([u, v], 1).double()).float()
    return torch.cat([values, torch.ones(len(values), 1)], 1).view(-1, 3, 3)


class Detailed(OverEncoder):
    """A frozen encoder and the feature network that is trained over it; ``misaligned`` is the aligner's last error."""

    name = "hfgi"

    def __init__(self, encoder: Encoder, generator: Generator, **network: object) -> None:
        self.features: HFGI
        super().__init__(encoder, "features", HFGI.for_generator(generator, **network))
        self.misaligned = torch.zeros(())

    def inversions(self, images: Tensor, generator: Generator, fast: bool = False) -> list[tuple[Tensor, Tensor]]:
        pictures, grids = images[:, :3], images[:, 3:].permute(0, 2, 3, 1)
        latents, network = self.encode_first(pictures), self.features
        with torch.no_grad():
            below = generator.lower(latents, network.resolution)
            coarse = generator.upper(below, latents, network.resolution)
            residual = network.residual(pictures, coarse)
            seen = F.grid_sample(residual, grids, align_corners=False) if grids.shape[-1] else residual
        with autocast(fast):
            aligned = network.aligned(seen, coarse)
            conditions = network.residue(aligned)
        self.misaligned = (aligned.float() - residual).abs().mean()
        with network.injected(generator, *conditions):
            return [(latents, generator.upper(below, latents, network.resolution))]


def make_features(chosen: TrainFeaturesParams, params: Params, folder: Path, report: Report) -> dict[str, float]:
    """Train a feature network, or go on in ``folder``; store it, and return its scores on the held-out portraits."""
    task = FeatureTask(chosen.perspective)
    return make_over(Detailed, chosen, params, folder, report, params.models.features, task)
