"""ProgGAN (Karras et al. 2018, table 2): pixel norm before each convolution, nearest up-sampling, no mapping."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.generators.base import GENERATORS
from gan_core.generators.layers import PixelNorm
from gan_core.generators.unmapped import UnmappedGenerator

CELEBA_HQ = (512, 512, 512, 512, 256, 128, 64, 32, 16)


class WeightScale(nn.Module):
    """The equalised learning rate as a stored factor, and the bias, under their names in the published state dict."""

    def __init__(self, channels: int, fan_in: int, gain: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([(gain / fan_in) ** 0.5]))
        self.b = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.b[:, None, None]


class ScaledConv(nn.Module):
    """Pixel norm, then a convolution without bias, then scale and bias."""

    def __init__(self, before: int, after: int, size: int, padding: int, gain: float = 2.0) -> None:
        super().__init__()
        self.norm = PixelNorm()
        self.conv = nn.Conv2d(before, after, size, padding=padding, bias=False)
        nn.init.normal_(self.conv.weight)
        self.wscale = WeightScale(after, before * size * size, gain)

    def forward(self, x: Tensor) -> Tensor:
        return self.wscale(self.conv(self.norm(x)))


@GENERATORS.register("proggan")
class ProgGAN(UnmappedGenerator):
    """ProgGAN with one width per resolution from 4 px on; its images are not limited to [-1, 1].

    The state-dict names are those of GANLatentDiscovery (``features.*.wscale``). The other two published layouts are
    converted by ``gan_core.published.generators``. The default is the CelebA-HQ network of 1024 px.
    """

    family = "proggan"

    def __init__(self, channels: Sequence[int] = CELEBA_HQ, z_dim: int = 512) -> None:
        super().__init__(4 * 2 ** (len(channels) - 1), z_dim)
        self.arguments = {"channels": list(channels), "z_dim": z_dim}
        layers = [ScaledConv(z_dim, channels[0], 4, 3), ScaledConv(channels[0], channels[0], 3, 1)]
        for before, after in pairwise(channels):
            layers += [ScaledConv(before, after, 3, 1), ScaledConv(after, after, 3, 1)]
        self.features = nn.ModuleList(layers)
        self.output = ScaledConv(channels[-1], 3, 1, 0, gain=1.0)

    def draw(self, z: Tensor) -> Tensor:
        return self.output(self.maps(z, len(self.features)))

    def maps(self, z: Tensor, layers: int) -> Tensor:
        """Return the feature maps ``[B, C, H, H]`` of ``z [B, z_dim]`` after the first ``layers`` convolutions."""
        x = z[:, :, None, None]
        for i, layer in enumerate(self.features[:layers]):
            if i >= 2 and i % 2 == 0:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.leaky_relu(layer(x), 0.2)
        return x
