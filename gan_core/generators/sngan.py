"""SNGAN generators (Miyato et al. 2018, table 5): residual blocks with nearest up-sampling, no noise, no mapping."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_core.generators.base import GENERATORS
from gan_core.generators.unmapped import UnmappedGenerator

SN_RESNET32 = (256, 256, 256, 256)


class UpBlock(nn.Module):
    """Two rounds of batch norm, ReLU and convolution, with up-sampling in the first; the bypass adapts the width."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(before, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1),
        )
        self.bypass = nn.Sequential(nn.Upsample(scale_factor=2))
        if before != after:
            self.bypass.append(nn.Conv2d(before, after, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) + self.bypass(x)


class Maps(nn.Module):
    """Reshapes the dense layer's output ``[B, 16 C]`` to maps ``[B, C, 4, 4]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, 4, 4)


@GENERATORS.register("sngan")
class SNGAN(UnmappedGenerator):
    """SNGAN of ``4 * 2 ** (len(channels) - 1)`` px with tanh output and the state-dict names of GANLatentDiscovery.

    The published MNIST network has the default ``channels`` and one image channel. The published Anime network has
    ``channels`` 1024, 512, 256, 128, 64 and three image channels.
    """

    family = "sngan"

    def __init__(self, channels: Sequence[int] = SN_RESNET32, image_channels: int = 3, z_dim: int = 128) -> None:
        super().__init__(4 * 2 ** (len(channels) - 1), z_dim)
        self.arguments = {"channels": list(channels), "image_channels": image_channels, "z_dim": z_dim}
        self.model = nn.Sequential(
            nn.Linear(z_dim, 16 * channels[0]),
            Maps(),
            *(UpBlock(before, after) for before, after in pairwise(channels)),
            nn.BatchNorm2d(channels[-1]),
            nn.ReLU(),
            nn.Conv2d(channels[-1], image_channels, 3, padding=1),
        )

    def draw(self, z: Tensor) -> Tensor:
        return torch.tanh(self.model(z))
