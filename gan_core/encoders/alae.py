"""The encoder of ALAE (Pidhorskyi et al. 2020, "Adversarial Latent Autoencoders"): StyleGAN's blocks, mirrored."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.encoders.pyramid import Shape, check_shape
from gan_core.generators.stylegan1 import FUSED, blurred

WIDTHS = (16, 32, 64, 128, 256, 512, 512, 512, 512, 512)
"""Channels before and after each block, as published for 1024 px."""
EPS = 1e-5


class EncodeBlock(nn.Module):
    """Two convolutions, the second to half the size; what instance normalisation takes away becomes a latent."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, fused: bool) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.conv_2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.style_1, self.style_2 = nn.Linear(2 * inputs, style_dim), nn.Linear(2 * outputs, style_dim)
        self.fused = fused

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps of half the size and a part of the latent ``[B, style_dim]``."""
        x, first = normalised(F.leaky_relu(self.conv_1(x), 0.2))
        x, second = normalised(F.leaky_relu(self._halved(blurred(x)), 0.2))
        return x, self.style_1(first) + self.style_2(second)

    def _halved(self, x: Tensor) -> Tensor:
        weight, bias = self.conv_2.weight, self.conv_2.bias
        if not self.fused:
            return F.avg_pool2d(F.conv2d(x, weight, padding=1), 2) + bias[:, None, None]  # type: ignore[index]
        wide = F.pad(weight, (1, 1, 1, 1))
        filters = wide[..., 1:, 1:] + wide[..., :-1, 1:] + wide[..., 1:, :-1] + wide[..., :-1, :-1]
        return F.conv2d(x, filters / 4, bias, stride=2, padding=1)


def normalised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps ``[B, C, H, W]`` without their means and deviations, and these as a vector ``[B, 2 C]``."""
    mean = x.mean((2, 3), keepdim=True)
    variance = (x - mean).square().mean((2, 3), keepdim=True)
    deviation = variance.clamp_min(torch.finfo(x.dtype).tiny).sqrt()  # at 0 a root has no gradient to learn from
    statistics = torch.cat([mean, deviation], 1).flatten(1)
    return (x - mean) / (variance + EPS).sqrt(), statistics


@ENCODERS.register("alae")
class AlaeEncoder(Encoder):
    """One latent for all layers: the sum of what each block finds in its maps.

    ``widths`` are the channels before and after each block. The names of its weights are our own
    (``gan_core.published.alae`` converts).
    """

    name = "alae"
    space = "w"

    def __init__(
        self, n_latent: int = 18, style_dim: int = 512, input_size: Shape = 1024, widths: Sequence[int] = WIDTHS
    ) -> None:
        super().__init__()
        self.input_shape = check_shape(input_size)
        size = input_size if isinstance(input_size, int) else list(input_size)
        self.arguments = {"n_latent": n_latent, "style_dim": style_dim, "input_size": size, "widths": list(widths)}
        self.n_latent, self.w_dim = n_latent, style_dim
        self.from_rgb = nn.Conv2d(3, widths[0], 1)
        sides = [max(self.input_shape) >> i for i in range(len(widths) - 1)]
        self.blocks = nn.ModuleList(
            EncodeBlock(before, after, style_dim, side >= FUSED)
            for (before, after), side in zip(pairwise(widths), sides, strict=True)
        )
        self.register_buffer("latent_avg", torch.zeros(n_latent, style_dim), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = F.leaky_relu(self.from_rgb(images), 0.2 * 0.2)  # as published, the activation acts twice
        parts = []
        for block in self.blocks:
            x, part = block(x)
            parts.append(part)
        return torch.stack(parts).sum(0).unsqueeze(1).expand(-1, self.n_latent, -1)
