"""BigGAN-deep (Brock et al. 2019, appendix B.2): bottleneck blocks, statistics per truncation, self-attention."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.errors import ParamsError
from gan_core.generators.base import GENERATORS
from gan_core.generators.spectral import attend, stored_norm
from gan_core.generators.unmapped import LabelledGenerator

EPS = 1e-4
ROWS = 51
"""Rows of the stored statistics: truncations 0, 0.02, ..., 1."""
ATTENTION = 8
"""The index of the attention layer among the blocks."""
Z_DIM = 128
DEEP_128 = (16, 16, 16, 16, 8, 8, 4, 4, 2, 2, 1)


class TruncatedNorm(nn.Module):
    """Batch normalisation with statistics for 51 truncations from 0 to 1."""

    running_means: Tensor
    running_vars: Tensor

    def __init__(self, channels: int, condition: int = 0) -> None:
        super().__init__()
        self.register_buffer("running_means", torch.zeros(ROWS, channels))
        self.register_buffer("running_vars", torch.ones(ROWS, channels))
        if condition:
            self.scale = stored_norm(nn.Linear(condition, channels, bias=False))
            self.offset = stored_norm(nn.Linear(condition, channels, bias=False))
        else:
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, truncation: float, condition: Tensor | None = None) -> Tensor:
        """Normalise ``x [B, C, H, W]`` for a truncation in [0, 1]; ``condition [B, D]`` if the layer is conditional."""
        mean, variance = (self.at(truncation, table) for table in (self.running_means, self.running_vars))
        gain, bias = (
            (self.weight, self.bias) if condition is None else (1 + self.scale(condition), self.offset(condition))
        )
        scale = gain * torch.rsqrt(variance + EPS)
        shape = (-1, x.shape[1], 1, 1)
        return x * scale.view(shape) + (bias - mean * scale).view(shape)

    def at(self, truncation: float, table: Tensor) -> Tensor:
        """Return the row ``[C]`` of ``table [51, C]`` for a truncation in [0, 1], interpolated linearly.

        The published code swaps the weights of the two neighbours. For a truncation in the table both give the same.
        """
        place = truncation * (ROWS - 1)
        low = min(int(place + 1e-6), ROWS - 1)
        share = max(place - low, 0.0)
        return table[low] if share < 1e-6 else table[low] * (1 - share) + table[low + 1] * share


class DeepBlock(nn.Module):
    """Bottleneck block of four convolutions. The skip connection drops channels and doubles the size with the block."""

    def __init__(self, before: int, after: int, condition: int, up: bool) -> None:
        super().__init__()
        middle = before // 4
        widths = ((before, middle, 1), (middle, middle, 3), (middle, middle, 3), (middle, after, 1))
        for i, (inputs, outputs, size) in enumerate(widths):
            self.add_module(f"bn_{i}", TruncatedNorm(inputs, condition))
            self.add_module(f"conv_{i}", stored_norm(nn.Conv2d(inputs, outputs, size, padding=size // 2)))
        self.after, self.up = after, up

    def forward(self, x: Tensor, truncation: float, condition: Tensor) -> Tensor:
        skip = x[:, : self.after]
        for i in range(4):
            x = F.relu(self.get_submodule(f"bn_{i}")(x, truncation, condition))
            if i == 1 and self.up:
                x, skip = F.interpolate(x, scale_factor=2.0), F.interpolate(skip, scale_factor=2.0)
            x = self.get_submodule(f"conv_{i}")(x)
        return x + skip


class DeepAttention(nn.Module):
    """Self-attention, added with the learned weight ``gamma``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.snconv1x1_theta = stored_norm(nn.Conv2d(channels, channels // 8, 1, bias=False))
        self.snconv1x1_phi = stored_norm(nn.Conv2d(channels, channels // 8, 1, bias=False))
        self.snconv1x1_g = stored_norm(nn.Conv2d(channels, channels // 2, 1, bias=False))
        self.snconv1x1_o_conv = stored_norm(nn.Conv2d(channels // 2, channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, truncation: float, condition: Tensor) -> Tensor:
        parts = self.snconv1x1_theta(x), self.snconv1x1_phi(x), self.snconv1x1_g(x)
        return x + self.gamma * attend(x, *parts, self.snconv1x1_o_conv)


class DeepNetwork(nn.Module):
    """From latent and condition to the image, under the names of pytorch-pretrained-BigGAN."""

    def __init__(self, width: int, widths: Sequence[int]) -> None:
        super().__init__()
        condition = 2 * Z_DIM
        self.start = widths[0] * width
        self.gen_z = stored_norm(nn.Linear(condition, 16 * self.start))
        blocks: list[nn.Module] = [
            DeepBlock(before * width, after * width, condition, up=i % 2 == 1)
            for i, (before, after) in enumerate(pairwise(widths))
        ]
        blocks.insert(ATTENTION, DeepAttention(widths[ATTENTION] * width))
        self.layers = nn.ModuleList(blocks)
        self.bn = TruncatedNorm(widths[-1] * width)
        self.conv_to_rgb = stored_norm(nn.Conv2d(widths[-1] * width, width, 3, padding=1))

    def forward(self, condition: Tensor, truncation: float) -> Tensor:
        x = self.gen_z(condition).view(-1, 4, 4, self.start).permute(0, 3, 1, 2).contiguous()
        for layer in self.layers:
            x = layer(x, truncation, condition)
        return torch.tanh(self.conv_to_rgb(F.relu(self.bn(x, truncation)))[:, :3])


@GENERATORS.register("biggan-deep")
class BigGANDeep(LabelledGenerator):
    """BigGAN-deep with the names of pytorch-pretrained-BigGAN, which draws the class ``label``.

    ``width`` is the published ``channel_width`` (128). ``widths`` are the multiples of it before, between and after the
    blocks; every second block doubles the resolution. ``truncation`` scales ``z`` and selects the statistics. Raises
    ``ParamsError`` for a label that is no class, and for a truncation that has no statistics.
    """

    family = "biggan-deep"

    def __init__(
        self,
        width: int = 128,
        widths: Sequence[int] = DEEP_128,
        classes: int = 1000,
        label: int = 239,
        truncation: float = 0.4,
    ) -> None:
        super().__init__(4 * 2 ** (len(widths) // 2), Z_DIM, classes, label, truncation)
        if truncation > 1:
            raise ParamsError(f"truncation {truncation}: biggan-deep has statistics for truncations up to 1")
        self.arguments = {
            "width": width,
            "widths": list(widths),
            "classes": classes,
            "label": label,
            "truncation": truncation,
        }
        self.embeddings = nn.Linear(classes, Z_DIM, bias=False)
        self.generator = DeepNetwork(width, widths)

    def draw_labelled(self, z: Tensor, labels: Tensor) -> Tensor:
        """Draw images ``[B, 3, size, size]`` in [-1, 1] from truncated ``z [B, 128]`` and class indices ``[B]``."""
        return self.generator(torch.cat([z, self.embeddings.weight[:, labels].t()], 1), self.truncation)
