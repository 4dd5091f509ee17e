"""The locality term, which keeps tuned generators unchanged around their pivots (Roich et al. 2021, eq. 3-4)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gan_core.batching import in_chunks, in_chunks_each
from gan_core.generators.base import Generator
from gan_core.inversion.weights import RowWeights

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Distance ``[B]`` of two batches of images ``[B, 3, H, W]`` in [-1, 1]."""
PSI = 0.5
"""Truncation of the random codes, as published."""
CHUNK = 4
"""Codes that the frozen generator draws at once."""


def near_pivot(pivots: Tensor, w_plus: Tensor, alpha: float) -> Tensor:
    """Move ``pivots [B, n_latent, w_dim]`` by ``alpha`` towards ``w_plus`` of the same shape (eq. 3), norms per row."""
    direction = w_plus - pivots
    return pivots + alpha * direction / direction.flatten(1).norm(dim=1)[:, None, None]


class Locality:
    """The distance ``[rows]`` between the frozen and the tuned generators at a random code near each pivot.

    As published, codes are truncated by 0.5 and images are drawn without noise. Each call draws the next sample of
    each row's own random stream, which is seeded by ``seeds``.
    """

    def __init__(
        self, generator: Generator, pivots: Tensor, loss: Perceptual, alpha: float, seeds: Sequence[int]
    ) -> None:
        self.generator = generator
        self.pivots = pivots
        self.loss = loss
        self.alpha = alpha
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, weights: RowWeights) -> Tensor:
        return self.at(self.sample().to(self.pivots.device), weights)

    def sample(self) -> Tensor:
        """Draw the next ``z [rows, z_dim]`` of the rows' streams, on the CPU."""
        return torch.cat([torch.randn(1, self.generator.z_dim, generator=stream) for stream in self.streams])

    def at(self, z: Tensor, weights: RowWeights) -> Tensor:
        """Return the distance ``[rows]`` at the codes of ``z [rows, z_dim]`` near the pivots."""
        codes = self.codes(z)
        with torch.no_grad():
            *below, before = in_chunks_each(lambda part: self._draw(part, weights.resolution), codes, CHUNK)
        return self.distance(before, weights.draw(tuple(below), codes, "none"))

    @torch.no_grad()
    def codes(self, z: Tensor) -> Tensor:
        """Map ``z [B, z_dim]`` to a code near each pivot, ``[B, n_latent, w_dim]``."""
        w = in_chunks(self.generator.mapping, z, CHUNK)
        return near_pivot(self.pivots, self.generator.truncate(self.generator.broadcast(w), PSI), self.alpha)

    def _draw(self, codes: Tensor, resolution: int) -> tuple[Tensor, ...]:
        """Draw with the frozen generator; return the tensors of ``lower``, then the images."""
        below = self.generator.lower(codes, resolution, "none")
        return *below, self.generator.upper(below, codes, resolution, "none")

    def distance(self, before: Tensor, after: Tensor) -> Tensor:
        """Return eq. 4 for pairs of images ``[B, 3, H, W]``: mean squared error plus perceptual distance, ``[B]``."""
        return (after - before).square().mean((1, 2, 3)) + self.loss(before, after)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only ``rows``; a row that is listed twice is duplicated."""
        self.pivots = self.pivots[rows]
        self.streams = [self.streams[row].clone_state() for row in rows]
