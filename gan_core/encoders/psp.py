"""pixel2style2pixel (Richardson et al. 2021, "Encoding in Style", section 3)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.encoders.backbone import IR_SE_50, Units, body, group_ends, stem
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.errors import ParamsError
from gan_core.generators.layers import EqualLinear

COARSE, MIDDLE = 3, 7


class MapToStyle(nn.Module):
    """Halve a feature map ``[B, inputs, spatial, spatial]`` until one vector ``[B, style_dim]`` is left."""

    def __init__(self, inputs: int, style_dim: int, spatial: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for step in range(int(math.log2(spatial))):
            layers += [nn.Conv2d(style_dim if step else inputs, style_dim, 3, 2, 1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(style_dim, style_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


@ENCODERS.register("psp")
class GradualStyleEncoder(Encoder):
    """A feature pyramid over IR-SE and one small network per style, with the published state-dict names.

    Styles 0-2 read the coarsest of the three levels, 3-6 the middle one, the rest the finest. ``units`` (per group) and
    ``width`` (of the first group) shape the backbone: the published one is (3, 4, 14, 3) and 64 at 256 px.
    ``latent_avg [n_latent, style_dim]`` is set from the generator. Raises ``ParamsError`` for a size that can't be
    halved down to a vector.
    """

    name = "psp"
    space = "w_plus"

    def __init__(
        self,
        n_latent: int = 18,
        style_dim: int = 512,
        input_size: int = 256,
        units: Units | Sequence[int] = IR_SE_50,
        width: int = 64,
        input_channels: int = 3,
    ) -> None:
        super().__init__()
        if input_size < 32 or input_size & (input_size - 1):
            raise ParamsError(f"input_size is {input_size}: psp needs a power of two, at least 32")
        first, second, third, fourth = units
        self.arguments = {
            "n_latent": n_latent,
            "style_dim": style_dim,
            "input_size": input_size,
            "units": [first, second, third, fourth],
            "width": width,
            "input_channels": input_channels,
        }
        self.input_size, self.n_latent, self.w_dim = input_size, n_latent, style_dim
        self.taps = group_ends((first, second, third, fourth))[1:]
        self.input_layer = stem(input_channels, width)
        self.body = body((first, second, third, fourth), width)
        self.styles = nn.ModuleList(
            MapToStyle(8 * width, style_dim, input_size // (16 >> level_of(i))) for i in range(n_latent)
        )
        self.latlayer1 = nn.Conv2d(4 * width, 8 * width, 1)
        self.latlayer2 = nn.Conv2d(2 * width, 8 * width, 1)
        self.register_buffer("latent_avg", torch.zeros(n_latent, style_dim), persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the backbone's maps after its second, third and fourth group, fine to coarse."""
        x = self.input_layer(images)
        maps = []
        for index, unit in enumerate(self.body):
            x = unit(x)
            if index in self.taps:
                maps.append(x)
        return maps

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Return the three levels that the styles read, coarse to fine, all with the same channels."""
        fine, middle, coarse = self.features(images)
        p2 = upsampled(coarse, middle) + self.latlayer1(middle)
        p1 = upsampled(p2, fine) + self.latlayer2(fine)
        return [coarse, p2, p1]

    def forward(self, images: Tensor) -> Tensor:
        levels = self.pyramid(images)
        return torch.stack([style(levels[level_of(i)]) for i, style in enumerate(self.styles)], dim=1)

    def encode(self, images: Tensor) -> Tensor:
        size = (self.input_size, self.input_size)
        if images.shape[2:] != size:
            images = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        return self(images).float() + self.latent_avg


def level_of(style: int) -> int:
    """Which level of the pyramid a style reads: 0 coarse, 1 middle, 2 fine."""
    return 0 if style < COARSE else 1 if style < MIDDLE else 2


def upsampled(x: Tensor, like: Tensor) -> Tensor:
    """Resize ``x`` to the height and width of ``like``, bilinear with aligned corners."""
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)
