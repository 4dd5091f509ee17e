"""The feature pyramid over IR-SE of pSp, e4e and Style Transformer (Richardson et al. 2021, section 3.1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.encoders.backbone import Units, body, group_ends, stem
from gan_core.encoders.base import Encoder
from gan_core.encoders.resnet import resnet_body, resnet_stem
from gan_core.errors import ParamsError

COARSE, MIDDLE = 3, 7
"""The first styles that read the middle and the fine level, as published."""
Shape = int | Sequence[int]


class BackboneEncoder(Encoder):
    """An encoder over IR-SE, or over ResNet, with the published state-dict names.

    ``units`` (per group) and ``width`` (of the first group) define the backbone; published are (3, 4, 14, 3) and 64.
    ``input_size`` is a side, or height and width: 256, or [192, 256] for cars. ``latent_avg [n_latent, style_dim]`` is
    set from the generator. Raises ``ParamsError`` for a size that can't be halved down to a vector.
    """

    space = "w_plus"

    def __init__(
        self,
        n_latent: int,
        style_dim: int,
        input_size: Shape,
        units: Units | Sequence[int],
        width: int,
        channels: int,
        resnet: bool = False,
    ) -> None:
        super().__init__()
        self.input_shape = check_shape(input_size)
        first, second, third, fourth = units
        self.arguments = {
            "n_latent": n_latent,
            "style_dim": style_dim,
            "input_size": input_size if isinstance(input_size, int) else list(input_size),
            "units": [first, second, third, fourth],
            "width": width,
            "input_channels": channels,
        }
        self.n_latent, self.w_dim = n_latent, style_dim
        self.taps = group_ends((first, second, third, fourth))[1:]
        if resnet:
            self.conv1, self.bn1, self.relu = resnet_stem(channels, width)
        else:
            self.input_layer = stem(channels, width)
        self.body = (resnet_body if resnet else body)((first, second, third, fourth), width)
        self.resnet = resnet
        self.register_buffer("latent_avg", torch.zeros(n_latent, style_dim), persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the maps ``[B, C, H, W]`` after the second, third and fourth group, fine to coarse.

        ``images [B, input_channels, *input_shape]`` are in [-1, 1].
        """
        x = self.relu(self.bn1(self.conv1(images))) if self.resnet else self.input_layer(images)
        maps = []
        for index, unit in enumerate(self.body):
            x = unit(x)
            if index in self.taps:
                maps.append(x)
        return maps


class PyramidEncoder(BackboneEncoder):
    """An encoder that reads three pyramid levels, each with ``8 width`` channels, or thrice the coarsest (``flat``)."""

    def __init__(
        self,
        n_latent: int,
        style_dim: int,
        input_size: Shape,
        units: Units | Sequence[int],
        width: int,
        channels: int,
        resnet: bool = False,
        flat: bool = False,
    ) -> None:
        super().__init__(n_latent, style_dim, input_size, units, width, channels, resnet)
        self.flat = flat
        if not flat:
            self.latlayer1 = nn.Conv2d(4 * width, 8 * width, 1)
            self.latlayer2 = nn.Conv2d(2 * width, 8 * width, 1)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Return the three levels ``[B, 8 width, H, W]`` that the styles read, coarse to fine."""
        fine, middle, coarse = self.features(images)
        if self.flat:
            return [coarse] * 3
        p2 = upsampled(coarse, middle) + self.latlayer1(middle)
        p1 = upsampled(p2, fine) + self.latlayer2(fine)
        return [coarse, p2, p1]


def check_shape(size: Shape) -> tuple[int, int]:
    """Return height and width; raises ``ParamsError`` if the encoder can't halve them down to a vector."""
    height, width = (size, size) if isinstance(size, int) else (size[0], size[1])
    longer, shorter = max(height, width), min(height, width)
    if longer < 32 or longer & (longer - 1) or shorter % 16 or 2 * shorter < longer:
        raise ParamsError(
            f"input_size is {size}: encoders need a power of two, at least 32 (the shorter side of wide images: a "
            "multiple of 16, at least half of it)"
        )
    return height, width


def level_of(style: int) -> int:
    """Return the pyramid level that a style reads: 0 coarse (styles 0-2), 1 middle (3-6), 2 fine (all others)."""
    return 0 if style < COARSE else 1 if style < MIDDLE else 2


def upsampled(x: Tensor, like: Tensor) -> Tensor:
    """Resize ``x [B, C, h, w]`` bilinearly, with aligned corners, to the size of ``like [B, C', H, W]``."""
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)
