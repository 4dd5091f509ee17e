"""The StyleGAN2 discriminator (Karras et al. 2020), with the rosinality state-dict names."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.generators.layers import EPS, SQRT2, Bias, Blur, EqualLinear, blur
from gan_core.generators.stylegan2 import channel_table


class EqualConv(nn.Module):
    """Convolution with equalised learning rate, without bias."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.gain = 1 / math.sqrt(inputs * size * size)

    def forward(self, x: Tensor, kernel: Tensor | None = None) -> Tensor:
        """Convolve at the same size; with a blur ``kernel``, blur and halve the resolution in the same step."""
        weight = (self.weight * self.gain).to(x.dtype)
        if kernel is None:
            return F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        return F.conv2d(blur(x, kernel, padding=1 + weight.shape[-1] // 2), weight, stride=2)


def _activate(x: Tensor, bias: Bias) -> Tensor:
    return F.leaky_relu(x + bias.bias.to(x.dtype)[None, :, None, None], 0.2) * SQRT2


class ResidualBlock(nn.Module):
    """Two convolutions and a skip, both halving the resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.ModuleList([EqualConv(inputs, inputs, 3), Bias(inputs)])
        self.conv2 = nn.ModuleList([Blur(), EqualConv(inputs, outputs, 3), Bias(outputs)])
        self.skip = nn.ModuleList([Blur(), EqualConv(inputs, outputs, 1)])

    def forward(self, x: Tensor) -> Tensor:
        y = _activate(self.conv1[0](x), self.conv1[1])
        y = _activate(self.conv2[1](y, self.conv2[0].kernel), self.conv2[2])
        return (y + self.skip[1](x, self.skip[0].kernel)) / SQRT2


class Discriminator(nn.Module):
    """Images ``[B, 3, size, size]`` -> logits ``[B, 1]``; minibatch standard deviation over groups of up to 4."""

    def __init__(self, size: int = 64, channel_multiplier: int = 2, channels: dict[int, int] | None = None) -> None:
        super().__init__()
        table = {int(r): c for r, c in channels.items()} if channels else channel_table(size, channel_multiplier)
        self.compute_dtype = torch.float32
        self.convs = nn.ModuleList([nn.ModuleList([EqualConv(3, table[size], 1), Bias(table[size])])])
        for level in range(int(math.log2(size)), 2, -1):
            self.convs.append(ResidualBlock(table[2**level], table[2 ** (level - 1)]))
        self.final_conv = nn.ModuleList([EqualConv(table[4] + 1, table[4], 3), Bias(table[4])])
        self.final_linear = nn.Sequential(EqualLinear(table[4] * 16, table[4], activate=True), EqualLinear(table[4], 1))

    def forward(self, images: Tensor) -> Tensor:
        x = _activate(self.convs[0][0](images.to(self.compute_dtype)), self.convs[0][1])
        for block in self.convs[1:]:
            x = block(x)
        x = append_minibatch_deviation(x.float())
        x = _activate(self.final_conv[0](x), self.final_conv[1])
        return self.final_linear(x.flatten(1))


def append_minibatch_deviation(x: Tensor, group: int = 4) -> Tensor:
    """Append a channel with the standard deviation over ``group`` images; the batch must be < 4 or a multiple of 4."""
    batch, channels, height, width = x.shape
    group = min(batch, group)
    if batch % group:
        raise ValueError(f"a batch of {batch} can't be split into groups of {group} for the minibatch deviation")
    grouped = x.view(group, batch // group, channels, height, width)
    deviation = torch.sqrt(grouped.var(0, unbiased=False) + EPS).mean((1, 2, 3))
    return torch.cat([x, deviation.view(-1, 1, 1, 1).repeat(group, 1, height, width)], 1)
