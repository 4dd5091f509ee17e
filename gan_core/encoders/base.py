"""What every encoder can do, whatever its architecture."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from gan_core.registry import Registry


class Encoder(nn.Module, ABC):
    """A network from aligned images to latents of one generator.

    ``encode`` resizes to ``input_size`` as the method's authors do and adds the average latent. ``arguments`` are the
    constructor's own, kept so that a checkpoint card can rebuild the module.
    """

    name: ClassVar[str]
    space: ClassVar[str]
    arguments: dict[str, Any]
    input_size: int
    n_latent: int
    w_dim: int
    latent_avg: Tensor

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Images ``[B, C, input_size, input_size]`` in [-1, 1] -> latent offsets ``[B, n_latent, w_dim]``."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` in [-1, 1] -> ``w_plus [B, n_latent, w_dim]``, the average latent added."""


ENCODERS: Registry[type[Encoder]] = Registry("encoder", "gan_core.encoders")
