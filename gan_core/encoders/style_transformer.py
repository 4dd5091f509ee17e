"""Style Transformer (Hu et al. 2022, "Style Transformer for Image Inversion and Editing", section 3)."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from gan_core.encoders.backbone import IR_SE_50, Units
from gan_core.encoders.base import ENCODERS
from gan_core.encoders.pyramid import PyramidEncoder, Shape
from gan_core.encoders.transformer import DecoderLayer
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.layers import EqualLinear, PixelNorm


@ENCODERS.register("style-transformer")
class StyleTransformer(PyramidEncoder):
    """Learned queries that attend to the three levels of the pyramid, coarse to fine, and become the styles.

    The queries are vectors ``z`` after a mapping network, which is initialised from the generator and trained too (in
    published files it is ``decoder.style``, here ``style``). ``n_queries`` may exceed ``n_latent``: the published
    network always has 18, and smaller generators use the first ones. For the other arguments see ``BackboneEncoder``.
    """

    name = "style-transformer"

    def __init__(
        self,
        n_latent: int = 18,
        style_dim: int = 512,
        input_size: Shape = 256,
        units: Units | Sequence[int] = IR_SE_50,
        width: int = 64,
        input_channels: int = 3,
        n_mlp: int = 8,
        n_queries: int | None = None,
        heads: int = 4,
    ) -> None:
        super().__init__(n_latent, style_dim, input_size, units, width, input_channels)
        self.arguments |= {"n_mlp": n_mlp, "n_queries": n_queries, "heads": heads}
        self.z = nn.Parameter(torch.randn(1, n_queries or n_latent, style_dim))
        layers = [EqualLinear(style_dim, style_dim, lr_mul=0.01, activate=True) for _ in range(n_mlp)]
        self.style = nn.Sequential(PixelNorm(), *layers)
        self.transformerlayer_coarse = DecoderLayer(style_dim, 8 * width, heads)
        self.transformerlayer_medium = DecoderLayer(style_dim, 8 * width, heads)
        self.transformerlayer_fine = DecoderLayer(style_dim, 8 * width, heads)

    @classmethod
    def for_generator(cls, generator: Generator, **network: object) -> Self:
        """Build an encoder that also starts from the generator's mapping network.

        Raises ``ParamsError`` for a generator without the mapping network of a StyleGAN2, and for a conditional one.
        """
        mapping = getattr(generator, "style", None)
        if not isinstance(mapping, nn.Sequential) or generator.z_dim != generator.w_dim:
            raise ParamsError(f"style-transformer needs a StyleGAN2 mapping network, {generator.family!r} has none")
        if any(
            weight.shape != (generator.w_dim,) * 2 for name, weight in mapping.named_parameters() if "weight" in name
        ):
            raise ParamsError(
                "style-transformer needs a mapping network from z to one latent for all layers: that of this "
                f"{generator.family} knows classes, or gives a latent for each layer"
            )
        encoder = super().for_generator(generator, **network | {"n_mlp": len(mapping) - 1})
        encoder.style.load_state_dict(mapping.state_dict())
        return encoder

    def queries(self) -> Tensor:
        """Return the learned queries ``[1, n_queries, style_dim]``, which are the same for every image."""
        return self.style(self.z[0])[None]

    def forward(self, images: Tensor) -> Tensor:
        coarse, middle, fine = (level.flatten(2).transpose(1, 2) for level in self.pyramid(images))
        codes = self.transformerlayer_coarse(self.queries().to(coarse.dtype).expand(len(images), -1, -1), coarse)
        codes = self.transformerlayer_medium(codes, middle)
        return self.transformerlayer_fine(codes, fine)[:, : self.n_latent]
