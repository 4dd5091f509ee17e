"""BigGAN-128 (Brock et al. 2019, appendix B): class-conditional, with a chunk of ``z`` for each block."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.generators.base import GENERATORS
from gan_core.generators.spectral import PoweredConv, PoweredLinear, attend
from gan_core.generators.unmapped import LabelledGenerator

WIDTHS = (16, 16, 8, 4, 2, 1)
SHARED = 128
CHUNK = 20
BN_EPS = 1e-5
"""The sizes of the published network, and the epsilon of its batch normalisation."""


class Statistics(nn.Module):
    """Normalises with a stored mean and variance, then applies a gain and a bias per row."""

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def normalise(self, x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        """Normalise ``x [B, C, H, W]`` and apply ``gain`` and ``bias``, both ``[B or 1, C]``."""
        scale = gain * torch.rsqrt(self.stored_var + BN_EPS)
        return x * scale[:, :, None, None] + (bias - self.stored_mean * scale)[:, :, None, None]


class ConditionalNorm(Statistics):
    """Batch normalisation whose gain and bias are linear in the condition."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__(channels)
        self.gain = PoweredLinear(condition, channels, bias=False)
        self.bias = PoweredLinear(condition, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.normalise(x, 1 + self.gain(condition), self.bias(condition))


class PlainNorm(Statistics):
    """Batch normalisation with a learned gain and bias."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.normalise(x, self.gain[None], self.bias[None])


class Block(nn.Module):
    """Residual block that doubles the resolution."""

    def __init__(self, before: int, after: int, condition: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = PoweredConv(before, after, 3), PoweredConv(after, after, 3)
        self.conv_sc = PoweredConv(before, after, 1)
        self.bn1, self.bn2 = ConditionalNorm(before, condition), ConditionalNorm(after, condition)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = F.interpolate(F.relu(self.bn1(x, condition)), scale_factor=2.0)
        y = self.conv2(F.relu(self.bn2(self.conv1(y), condition)))
        return y + self.conv_sc(F.interpolate(x, scale_factor=2.0))


class Attention(nn.Module):
    """Self-attention, added with the learned weight ``gamma``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta, self.phi = (PoweredConv(channels, channels // 8, 1, bias=False) for _ in range(2))
        self.g = PoweredConv(channels, channels // 2, 1, bias=False)
        self.o = PoweredConv(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * attend(x, self.theta(x), self.phi(x), self.g(x), self.o)


@GENERATORS.register("biggan")
class BigGAN(LabelledGenerator):
    """BigGAN of 128 px with ajbrock's state-dict names, which draws the class ``label`` (239 in the published scripts).

    ``width`` is the published ``G_ch`` (96). ``truncation`` scales ``z``, as the published sampler does. Raises
    ``ParamsError`` for a label that is no class, and for a truncation that is not above 0.
    """

    family = "biggan"

    def __init__(self, width: int = 96, classes: int = 1000, label: int = 239, truncation: float = 1.0) -> None:
        super().__init__(128, 6 * CHUNK, classes, label, truncation)
        self.arguments = {"width": width, "classes": classes, "label": label, "truncation": truncation}
        self.shared = nn.Embedding(classes, SHARED)
        self.linear = PoweredLinear(CHUNK, 16 * WIDTHS[0] * width)
        self.blocks = nn.ModuleList()
        for i, (before, after) in enumerate(pairwise(WIDTHS)):
            parts: list[nn.Module] = [Block(before * width, after * width, SHARED + CHUNK)]
            self.blocks.append(nn.ModuleList(parts + [Attention(after * width)] * (i == 3)))
        self.output_layer = nn.Sequential(PlainNorm(width), nn.ReLU(), PoweredConv(width, 3, 3))

    def draw_labelled(self, z: Tensor, labels: Tensor) -> Tensor:
        """Draw images ``[B, 3, 128, 128]`` in [-1, 1] from ``z [B, 120]`` and class indices ``[B]``."""
        first, *rest = z.split(CHUNK, 1)
        shared = self.shared(labels)
        x = self.linear(first).view(len(z), -1, 4, 4)
        for parts, chunk in zip(self.blocks, rest, strict=True):
            for part in parts.children():
                x = part(x, torch.cat([shared, chunk], 1)) if isinstance(part, Block) else part(x)
        return torch.tanh(self.output_layer(x))
