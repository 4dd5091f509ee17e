"""What every generator can do, whatever its family."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from gan_core.errors import ParamsError
from gan_core.registry import Registry

Noise = Literal["const", "random", "none"] | Sequence[Tensor]


class Generator(nn.Module, ABC):
    """A network from latents to images, with its latent spaces by name.

    Images are ``[B, 3, size, size]`` float32 around ``[-1, 1]`` (not clamped). ``arguments`` are the constructor's own,
    kept so that a checkpoint card can rebuild the module.
    """

    family: ClassVar[str]
    spaces: ClassVar[tuple[str, ...]]
    arguments: dict[str, Any]
    size: int
    z_dim: int
    w_dim: int
    n_latent: int
    latent_avg: Tensor

    @abstractmethod
    def mapping(self, z: Tensor) -> Tensor:
        """``z [B, z_dim]`` -> ``w [B, w_dim]``."""

    @abstractmethod
    def synthesis(self, w_plus: Tensor, noise: Noise = "const") -> Tensor:
        """``w_plus [B, n_latent, w_dim]`` -> images; ``noise`` maps may also be given, one tensor a layer."""

    def noise_sizes(self) -> list[int]:
        """Return the side of each noise map in pixels, in the order that ``synthesis`` takes them."""
        return []

    def lower(self, w_plus: Tensor, resolution: int, noise: Noise = "const") -> tuple[Tensor, ...]:
        """Return what ``synthesis(w_plus)`` has computed below ``resolution`` pixels, rows first.

        Nothing in a family that can't stop there: ``upper`` then draws the whole image.
        """
        return ()

    def upper(self, below: tuple[Tensor, ...], w_plus: Tensor, resolution: int, noise: Noise = "const") -> Tensor:
        """Finish what ``lower`` has begun: images ``[B, 3, size, size]``; ``torch.func.vmap`` goes through it."""
        return self.synthesis(w_plus, noise)

    def upper_parameters(self, resolution: int) -> dict[str, nn.Parameter]:
        """Return the weights that act at ``resolution`` pixels and above, by name; all of them for 4 and less."""
        if resolution > 4:
            raise ParamsError(f"{self.family} can't tell its weights by resolution: use 4, which means all")
        return dict(self.named_parameters())

    def broadcast(self, w: Tensor) -> Tensor:
        """``w [B, w_dim]`` -> ``w_plus [B, n_latent, w_dim]``."""
        return w.unsqueeze(1).expand(-1, self.n_latent, -1)

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Pull ``w`` or ``w_plus`` towards the mean latent: ``avg + psi (w - avg)``."""
        return self.latent_avg + psi * (w - self.latent_avg)

    @torch.no_grad()
    def mean_latent(self, n: int = 4096, seed: int = 0) -> Tensor:
        """Return the mean of ``mapping(z)`` over ``n`` draws, ``[w_dim]``."""
        z = torch.randn(n, self.z_dim, generator=torch.Generator().manual_seed(seed))
        return self.mapping(z.to(self.latent_avg.device)).mean(0)


GENERATORS: Registry[type[Generator]] = Registry("generator", "gan_core.generators", Generator)
