"""SNGAN generators (Miyato et al. 2018, table 5): residual blocks of nearest up-sampling, no noise, no mapping."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gan_core.generators.base import GENERATORS
from gan_core.generators.unmapped import UnmappedGenerator

SN_RESNET32 = (256, 256, 256, 256)
SN_RESNET64 = (1024, 512, 256, 128, 64)


class UpBlock(nn.Module):
    """Twice normalise, ReLU, convolve, up-sampled in between; the bypass convolves only where widths differ."""

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
    """Views the dense layer's output as 4x4 maps."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1, 4, 4)


@GENERATORS.register("sngan")
class SNGAN(UnmappedGenerator):
    """SNGAN of ``4 * 2 ** (len(channels) - 1)`` px, ending in tanh; state-dict names of GANLatentDiscovery.

    ``SN_RESNET32`` with one image channel is the published MNIST network, ``SN_RESNET64`` with three is Anime.
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
