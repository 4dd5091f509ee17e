"""The baselines of pSp that use only the last feature map (Richardson et al. 2021, section 4.1: W and naive W+)."""

from collections.abc import Sequence

from torch import Tensor, nn

from gan_core.encoders.backbone import IR_SE_50, Units
from gan_core.encoders.base import ENCODERS
from gan_core.encoders.pyramid import BackboneEncoder, Shape
from gan_core.generators.layers import EqualLinear

POOLED = 7
"""Side of the pooled feature map, as published."""


@ENCODERS.register("psp-w")
class SingleStyleEncoder(BackboneEncoder):
    """One style for all latents, from the mean of the last feature map; names and arguments as in pSp's code."""

    name = "psp-w"
    space = "w"

    def __init__(
        self,
        n_latent: int = 18,
        style_dim: int = 512,
        input_size: Shape = 256,
        units: Units | Sequence[int] = IR_SE_50,
        width: int = 64,
        input_channels: int = 3,
    ) -> None:
        super().__init__(n_latent, style_dim, input_size, units, width, input_channels)
        self.linear = EqualLinear(8 * width, style_dim)

    def forward(self, images: Tensor) -> Tensor:
        style = self.linear(self.features(images)[-1].mean((2, 3)))
        return style.unsqueeze(1).expand(-1, self.n_latent, -1)


@ENCODERS.register("psp-w-plus")
class LastLayerEncoder(BackboneEncoder):
    """All styles from one vector of the last feature map; names and arguments as in pSp's code."""

    name = "psp-w-plus"

    def __init__(
        self,
        n_latent: int = 18,
        style_dim: int = 512,
        input_size: Shape = 256,
        units: Units | Sequence[int] = IR_SE_50,
        width: int = 64,
        input_channels: int = 3,
    ) -> None:
        super().__init__(n_latent, style_dim, input_size, units, width, input_channels)
        self.output_layer_2 = nn.Sequential(
            nn.BatchNorm2d(8 * width),
            nn.AdaptiveAvgPool2d(POOLED),
            nn.Flatten(),
            nn.Linear(8 * width * POOLED**2, style_dim),
        )
        self.linear = EqualLinear(style_dim, n_latent * style_dim)

    def forward(self, images: Tensor) -> Tensor:
        codes = self.linear(self.output_layer_2(self.features(images)[-1]))
        return codes.unflatten(1, (self.n_latent, self.w_dim))
