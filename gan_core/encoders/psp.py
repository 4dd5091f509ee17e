"""pixel2style2pixel (Richardson et al. 2021, "Encoding in Style", section 3)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_core.encoders.backbone import IR_SE_50, Units
from gan_core.encoders.base import ENCODERS
from gan_core.encoders.pyramid import PyramidEncoder, Shape, level_of
from gan_core.generators.layers import EqualLinear


class MapToStyle(nn.Module):
    """Halves maps ``[B, inputs, spatial, spatial]`` down to ``[B, width]`` and maps them to ``[B, style_dim]``."""

    def __init__(self, inputs: int, style_dim: int, spatial: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for step in range(int(math.log2(spatial))):
            layers += [nn.Conv2d(width if step else inputs, width, 3, 2, 1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(width, style_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


class StyleHeads(PyramidEncoder):
    """A small network per style, over the levels of a pyramid: styles 0-2 read the coarsest, 3-6 the middle one.

    ``head_width`` is the inner width of the style networks (published: ``style_dim``). For the other arguments see
    ``PyramidEncoder``.
    """

    def __init__(
        self,
        n_latent: int,
        style_dim: int,
        input_size: Shape,
        units: Units | Sequence[int],
        width: int,
        channels: int,
        head_width: int | None,
        resnet: bool = False,
        flat: bool = False,
    ) -> None:
        super().__init__(n_latent, style_dim, input_size, units, width, channels, resnet, flat)
        self.arguments |= {"head_width": head_width}
        sides = [self.input_size // (16 >> (0 if flat else level_of(i))) for i in range(n_latent)]
        self.styles = nn.ModuleList(MapToStyle(8 * width, style_dim, side, head_width or style_dim) for side in sides)

    def styles_of(self, images: Tensor, count: int | None = None) -> list[Tensor]:
        """Return the first ``count`` styles (default: all) of ``images [B, C, *input_shape]``, each ``[B, w_dim]``."""
        levels = self.pyramid(images)
        return [style(levels[level_of(i)]) for i, style in enumerate(self.styles[:count])]


@ENCODERS.register("psp")
class GradualStyleEncoder(StyleHeads):
    """A feature pyramid over IR-SE and a small network per style, with the published state-dict names.

    For the arguments see ``StyleHeads`` and ``BackboneEncoder``.
    """

    name = "psp"

    def __init__(
        self,
        n_latent: int = 18,
        style_dim: int = 512,
        input_size: Shape = 256,
        units: Units | Sequence[int] = IR_SE_50,
        width: int = 64,
        input_channels: int = 3,
        head_width: int | None = None,
    ) -> None:
        super().__init__(n_latent, style_dim, input_size, units, width, input_channels, head_width)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack(self.styles_of(images), dim=1)
