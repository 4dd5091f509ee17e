"""Keep a tuned generator as it was around the pivot (Roich et al. 2021, eq. 3-4)."""

from collections.abc import Callable

import torch
from torch import Tensor

from gan_core.generators.base import Generator
from gan_core.params import TuneParams

Perceptual = Callable[[Tensor, Tensor], Tensor]
PSI = 0.5


def near_pivot(pivot: Tensor, w: Tensor, alpha: float) -> Tensor:
    """Go ``alpha`` from ``pivot [1, n_latent, w_dim]`` towards ``w`` (same shape): eq. 3, the norm over all entries."""
    direction = w - pivot
    return pivot + alpha * direction / direction.norm()


class Locality:
    """Distance between the frozen and the tuned generator at a fresh random code near the pivot.

    Codes are truncated by 0.5 and images drawn without noise, as the authors do. Calling it draws the next sample of
    the stream ``seed``.
    """

    def __init__(self, generator: Generator, pivot: Tensor, loss: Perceptual, params: TuneParams, seed: int) -> None:
        self.generator = generator
        self.pivot = pivot
        self.loss = loss
        self.params = params
        self.stream = torch.Generator().manual_seed(seed)

    def __call__(self, tuned: Generator) -> Tensor:
        z = torch.randn(1, self.generator.z_dim, generator=self.stream).to(self.pivot.device)
        return self.params.locality_weight * self.distance(tuned, z)

    def distance(self, tuned: Generator, z: Tensor) -> Tensor:
        """Eq. 4 at the code of ``z [1, z_dim]``: mean squared error plus perceptual distance."""
        with torch.no_grad():
            w = self.generator.broadcast(self.generator.truncate(self.generator.mapping(z), PSI))
            code = near_pivot(self.pivot, w, self.params.locality_alpha)
            before = self.generator.synthesis(code, noise="none")
        after = tuned.synthesis(code, noise="none")
        return (after - before).square().mean() + self.loss(before, after).mean()
