"""The common interface of all generator families."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from gan_core.errors import ParamsError
from gan_core.registry import Arguments, Registry

Noise = Literal["const", "random", "none"] | Sequence[Tensor]
"""The stored noise maps, fresh ones, none, or one map ``[B or 1, 1, r, r]`` per layer."""


class Generator(nn.Module, ABC):
    """A network from latents to images.

    Images are ``[B, 3, size, size]`` float32 around ``[-1, 1]`` (not clamped). ``spaces`` are the names of its latent
    spaces, and ``arguments`` those of its constructor.
    """

    family: ClassVar[str]
    spaces: ClassVar[tuple[str, ...]]
    arguments: Arguments
    size: int
    z_dim: int
    w_dim: int
    n_latent: int
    latent_avg: Tensor
    per_layer = False
    """Whether ``mapping`` gives a latent for each layer, ``[B, n_latent * w_dim]``."""
    truncation: float = 1.0
    """What ``z`` is multiplied with to be the latent, in a family without a mapping network."""

    @abstractmethod
    def mapping(self, z: Tensor) -> Tensor:
        """Map ``z [B, z_dim]``, standard normal, to ``w [B, w_dim]``."""

    @abstractmethod
    def synthesis(self, w_plus: Tensor, noise: Noise = "const") -> Tensor:
        """Draw images ``[B, 3, size, size]`` around [-1, 1] from ``w_plus [B, n_latent, w_dim]``.

        Raises ``ValueError`` for latents of another shape.
        """

    def noise_sizes(self) -> list[int]:
        """Return the side of each noise map in pixels, in the order of ``synthesis``."""
        return []

    def inner_sizes(self) -> list[int]:
        """Return the sides of the pictures that ``lower`` can end with, before finer layers are added."""
        return []

    def lower(self, w_plus: Tensor, resolution: int, noise: Noise = "const") -> tuple[Tensor, ...]:
        """Compute the part of ``synthesis`` below ``resolution`` pixels from ``w_plus [B, n_latent, w_dim]``.

        Returns the intermediate tensors ``[B, ...]``, or none for a family that can't stop there; ``upper`` then draws
        the whole image.
        """
        return ()

    def upper(self, below: tuple[Tensor, ...], w_plus: Tensor, resolution: int, noise: Noise = "const") -> Tensor:
        """Compute the rest of ``synthesis`` after ``lower``: images ``[B, 3, size, size]``.

        It must work under ``torch.func.vmap``.
        """
        return self.synthesis(w_plus, noise)

    def upper_parameters(self, resolution: int) -> dict[str, nn.Parameter]:
        """Return the weights that act at ``resolution`` pixels and above, by name; all weights for 4 and less.

        Raises ``ParamsError`` for a resolution that the family can't select or doesn't have.
        """
        if resolution > 4:
            raise ParamsError(f"{self.family} can't select its weights by resolution: use 4, which means all")
        return dict(self.named_parameters())

    def fold(self) -> None:
        """Change a frozen network for good so that it draws the same pictures, up to rounding, with fewer products.

        Its state dict is another afterwards. By default nothing is done.
        """

    def broadcast(self, w: Tensor) -> Tensor:
        """Repeat ``w [B, w_dim]`` for every layer: ``w_plus [B, n_latent, w_dim]``."""
        return w.unsqueeze(1).expand(-1, self.n_latent, -1)

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Move latents ``[..., w_dim]`` towards the mean latent: ``avg + psi (w - avg)``."""
        return self.latent_avg + psi * (w - self.latent_avg)

    @torch.no_grad()
    def mean_latent(self, n: int = 4096, seed: int = 0) -> Tensor:
        """Return the mean ``[w_dim]`` of ``mapping(z)`` over ``n`` samples."""
        z = torch.randn(n, self.z_dim, generator=torch.Generator().manual_seed(seed)).to(self.latent_avg.device)
        return self.mapping(z).mean(0)


GENERATORS: Registry[type[Generator]] = Registry("generator", "gan_core.generators", Generator)
