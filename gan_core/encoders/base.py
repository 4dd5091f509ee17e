"""What every encoder can do, whatever its architecture."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.registry import Registry


class Encoder(nn.Module, ABC):
    """A network from aligned images to latents of one generator.

    ``input_shape`` is the height and width of its input, ``input_size`` the larger of them. ``arguments`` are the
    constructor's own, kept so that a checkpoint card can rebuild the module.
    """

    name: ClassVar[str]
    space: ClassVar[str]
    arguments: dict[str, Any]
    input_shape: tuple[int, int]
    n_latent: int
    w_dim: int
    latent_avg: Tensor

    @property
    def input_size(self) -> int:
        """The longer side of the input in pixels."""
        return max(self.input_shape)

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Images ``[B, C, *input_shape]`` in [-1, 1] -> latent offsets ``[B, n_latent, w_dim]``."""

    def encode(self, images: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` in [-1, 1] -> ``w_plus [B, n_latent, w_dim]``, the average latent added.

        Other sizes are resampled to ``input_shape`` first, bilinear with antialiasing, as the methods' authors do.
        """
        if images.shape[2:] != self.input_shape:
            images = F.interpolate(images, self.input_shape, mode="bilinear", align_corners=False, antialias=True)
        return self(images).float() + self.latent_avg

    def frame(self, images: Tensor) -> Tensor:
        """Cut the generator's square images to the encoder's proportions: the middle rows where it sees wide images."""
        height = images.shape[2] * self.input_shape[0] // self.input_size
        top = (images.shape[2] - height) // 2
        return images[:, :, top : top + height]


ENCODERS: Registry[type[Encoder]] = Registry("encoder", "gan_core.encoders")
