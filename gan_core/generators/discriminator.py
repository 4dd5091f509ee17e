"""The StyleGAN2 discriminator (Karras et al. 2020), with the rosinality state-dict names."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.generators.layers import EPS, SQRT2, Bias, Blur, EqualLinear, blur
from gan_core.generators.stylegan2 import channel_table

GROUP = 4
"""Images over which the minibatch deviation is taken, as published."""


class EqualConv(nn.Module):
    """Convolution without bias, with equalised learning rate. Stride 1 keeps the size; stride 2 is not padded."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.gain = 1 / math.sqrt(inputs * size * size)
        self.stride = stride
        self.padding = size // 2 if stride == 1 else 0

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, (self.weight * self.gain).to(x.dtype), stride=self.stride, padding=self.padding)


class ConvLayer(nn.ModuleList):
    """Blur (if ``down``), convolution, bias and leaky ReLU, numbered as in published state dicts."""

    def __init__(self, inputs: int, outputs: int, size: int, down: bool = False, activate: bool = True) -> None:
        conv = EqualConv(inputs, outputs, size, stride=2 if down else 1)
        super().__init__([*([Blur()] if down else []), conv, *([Bias(outputs)] if activate else [])])
        self.blur_padding = 1 + size // 2

    def forward(self, x: Tensor) -> Tensor:
        for part in self:
            if isinstance(part, Blur):
                x = blur(x, part.kernel, self.blur_padding)
            elif isinstance(part, Bias):
                x = F.leaky_relu(x + part.bias.to(x.dtype)[None, :, None, None], 0.2) * SQRT2
            else:
                x = part(x)
        return x


class ResidualBlock(nn.Module):
    """Two convolutions and a skip, both halving the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(inputs, inputs, 3)
        self.conv2 = ConvLayer(inputs, outputs, 3, down=True)
        self.skip = ConvLayer(inputs, outputs, 1, down=True, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x)) + self.skip(x)) / SQRT2


class Discriminator(nn.Module):
    """Scores images ``[B, 3, size, size]`` by logits ``[B, 1]``; minibatch standard deviation in groups of up to 4."""

    def __init__(self, size: int = 64, channel_multiplier: int = 2, channels: dict[int, int] | None = None) -> None:
        super().__init__()
        table = {int(r): c for r, c in channels.items()} if channels else channel_table(size, channel_multiplier)
        self.compute_dtype = torch.float32
        self.convs = nn.ModuleList([ConvLayer(3, table[size], 1)])
        for level in range(int(math.log2(size)), 2, -1):
            self.convs.append(ResidualBlock(table[2**level], table[2 ** (level - 1)]))
        self.final_conv = ConvLayer(table[4] + 1, table[4], 3)
        self.final_linear = nn.Sequential(EqualLinear(table[4] * 16, table[4], activate=True), EqualLinear(table[4], 1))

    def forward(self, images: Tensor) -> Tensor:
        x = images.to(self.compute_dtype, memory_format=torch.channels_last)
        for block in self.convs:
            x = block(x)
        x = self.final_conv(append_minibatch_deviation(x.float()))
        logits: Tensor = self.final_linear(x.flatten(1))
        return logits


def append_minibatch_deviation(x: Tensor) -> Tensor:
    """Append a channel with the standard deviation over ``GROUP`` images to ``x [B, C, H, W]``: ``[B, C + 1, H, W]``.

    Raises ``ValueError`` for a batch that is larger than ``GROUP`` and not a multiple of it.
    """
    batch, channels, height, width = x.shape
    group = min(batch, GROUP)
    if batch % group:
        raise ValueError(f"a batch of {batch} can't be split into groups of {group} for the minibatch deviation")
    grouped = x.view(group, batch // group, channels, height, width)
    deviation = torch.sqrt(grouped.var(0, unbiased=False) + EPS).mean((1, 2, 3))
    return torch.cat([x, deviation.view(-1, 1, 1, 1).repeat(group, 1, height, width)], 1)
