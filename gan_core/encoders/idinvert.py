"""The encoder of in-domain inversion (Zhu et al. 2020, "In-Domain GAN Inversion for Real Image Editing")."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.encoders.pyramid import Shape, check_shape
from gan_core.errors import ParamsError

WIDTHS = (64, 128, 256, 512, 1024, 1024, 1024)
"""Channels before and after each block, as published for 256 px."""
LAST = 4
"""Longer side in pixels of the last maps."""


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution too where the channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = min(inputs, outputs)
        if inputs != outputs:
            self.conv, self.bn = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv1, self.bn1 = nn.Conv2d(inputs, hidden, 3, padding=1), nn.BatchNorm2d(hidden)
        self.conv2, self.bn2 = nn.Conv2d(hidden, outputs, 3, padding=1), nn.BatchNorm2d(outputs)
        self.changes = inputs != outputs

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.leaky_relu(self.bn(self.conv(x)), 0.2) if self.changes else x
        y = F.leaky_relu(self.bn1(self.conv1(x)), 0.2)
        return shortcut + F.leaky_relu(self.bn2(self.conv2(y)), 0.2)


@ENCODERS.register("idinvert")
class InDomainEncoder(Encoder):
    """A residual network that halves its maps down to 4 px, and one linear layer to all latents.

    ``widths`` are the channels before and after each block (one fewer than blocks plus the first convolution), so that
    the input has ``4 << (len(widths) - 1)`` pixels on its longer side. The names of its weights are our own. Raises
    ``ParamsError`` for another size.
    """

    name = "idinvert"
    space = "w_plus"

    def __init__(
        self,
        n_latent: int = 14,
        style_dim: int = 512,
        input_size: Shape = 256,
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        self.input_shape = check_shape(input_size)
        halvings = len(widths) - 1
        height, width = (side >> halvings for side in self.input_shape)
        if max(height, width) != LAST:
            raise ParamsError(
                f"{len(widths)} widths halve {self.input_shape[0]}x{self.input_shape[1]} px down to {height}x{width}: "
                f"an input of {LAST << halvings} px, or as many widths as it takes to {LAST} px, is needed"
            )
        size = input_size if isinstance(input_size, int) else list(input_size)
        self.arguments = {"n_latent": n_latent, "style_dim": style_dim, "input_size": size, "widths": list(widths)}
        self.n_latent, self.w_dim = n_latent, style_dim
        self.conv, self.bn = nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0])
        self.blocks = nn.ModuleList(Residual(a, b) for a, b in pairwise(widths))
        inputs = widths[-1] * height * width
        self.fc_weight = nn.Parameter(torch.randn(n_latent * style_dim, inputs))
        self.gain = 1 / math.sqrt(inputs)
        self.last_bn = nn.BatchNorm1d(n_latent * style_dim)
        self.register_buffer("latent_avg", torch.zeros(n_latent, style_dim), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = F.leaky_relu(self.bn(self.conv(images)), 0.2)
        for block in self.blocks:
            x = block(F.avg_pool2d(x, 2))
        codes = self.last_bn(F.linear(x.flatten(1), self.fc_weight * self.gain))
        return codes.unflatten(1, (self.n_latent, self.w_dim))
