"""ReStyle (Alaluf et al. 2021, "A Residual-Based StyleGAN Encoder via Iterative Refinement", section 3)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from gan_core.batching import chunk_size
from gan_core.encoders.backbone import IR_SE_50, Units
from gan_core.encoders.base import ENCODERS
from gan_core.encoders.e4e import progressive
from gan_core.encoders.psp import StyleHeads
from gan_core.encoders.pyramid import Shape
from gan_core.encoders.resnet import RESNET_34
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.geometry import framed_like
from gan_core.precision import without_autocast

PAIR = 6
"""Channels of a picture and of what is drawn so far."""
Backbone = Literal["ir-se", "resnet"]


class ReStyle(StyleHeads):
    """An encoder that looks ``steps`` times at a picture and what its generator draws of it, and adds to the latents.

    It begins with the mean latent and its picture. ``backbone`` is IR-SE (faces) or ResNet (anything else, as
    published), ``units`` by default those of IR-SE-50 or ResNet-34. All styles read the coarsest map, or the levels of
    pSp with ``pyramid``. For the other arguments see ``StyleHeads`` and ``BackboneEncoder``.
    """

    draws = True
    synthesis: Callable[[Tensor], Tensor] | None = None

    def __init__(
        self,
        n_latent: int = 18,
        style_dim: int = 512,
        input_size: Shape = 256,
        units: Units | Sequence[int] | None = None,
        width: int = 64,
        head_width: int | None = None,
        backbone: Backbone = "ir-se",
        pyramid: bool = False,
        steps: int = 5,
    ) -> None:
        if backbone not in ("ir-se", "resnet") or steps < 1:
            raise ParamsError(f"backbone {backbone!r}, steps {steps}: ir-se or resnet is needed, and a step or more")
        resnet = backbone == "resnet"
        units = units or (RESNET_34 if resnet else IR_SE_50)
        super().__init__(n_latent, style_dim, input_size, units, width, PAIR, head_width, resnet, not pyramid)
        del self.arguments["input_channels"]
        self.arguments |= {"backbone": backbone, "pyramid": pyramid, "steps": steps}
        self.steps = steps

    def attach(self, generator: Generator) -> None:
        """Draw with ``generator`` from now on, also in copies of the encoder."""

        def synthesis(latents: Tensor) -> Tensor:
            return torch.cat([generator.synthesis(part) for part in latents.split(chunk_size(generator.size))])

        self.synthesis = synthesis

    def passes(self, images: Tensor) -> Iterator[Tensor]:
        """Yield ``w_plus [B, n_latent, w_dim]`` of ``images [B, 3, H, W]`` after each of ``steps`` (section 3.2).

        Raises ``ParamsError`` without a generator.
        """
        images = self.resampled(images)
        latents = self.latent_avg[None]
        for _ in range(self.steps):
            drawn = self._drawn(latents, images).expand(len(images), -1, -1, -1)
            latents = self.offsets(torch.cat([images, drawn], 1)) + latents.detach()
            yield latents

    @torch.no_grad()
    def _drawn(self, latents: Tensor, images: Tensor) -> Tensor:
        """What ``latents [B, n_latent, w_dim]`` give, framed and averaged like ``images``, not clamped."""
        if self.synthesis is None:
            raise ParamsError(f"{self.name} looks at what its generator draws: load it together with its generator")
        with without_autocast():
            return framed_like(self.synthesis(latents), images)


@ENCODERS.register("restyle-psp")
class ReStylePsp(ReStyle):
    """ReStyle with the styles of pSp: each is one of its own."""

    name = "restyle-psp"

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack(self.styles_of(images), dim=1)


@ENCODERS.register("restyle-e4e")
class ReStyleE4E(ReStyle):
    """ReStyle with the styles of e4e: one for all latents, and offsets up to ``stage`` (see ``Encoder4Editing``)."""

    name = "restyle-e4e"
    stage: int | None = None

    def forward(self, images: Tensor) -> Tensor:
        return progressive(self, images, self.stage)
