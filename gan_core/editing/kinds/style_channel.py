"""Edits of one channel of StyleSpace (Wu et al. 2021): what a single number of a layer's style controls."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from gan_core.batching import in_chunks
from gan_core.data.stages import Row
from gan_core.editing.kinds.base import EDIT_KINDS, EditSetting, ImageEdit, PlannedEdit
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.params import EditSpec

SAMPLES, SEED, PSI = 2000, 5, 0.7


class StyleChannelSpec(EditSpec):
    """``layer`` and ``channel`` as published controls give them, such as (6, 501); strengths in standard deviations.

    Layers are counted in the order of drawing, ToRGB layers included (20 at 256 px, 26 at 1024).
    """

    kind: Literal["style-channel"] = "style-channel"
    layer: Annotated[int, Field(ge=0)]
    channel: Annotated[int, Field(ge=0)]
    strengths: Annotated[list[float], Field(min_length=1)]


@EDIT_KINDS.register("style-channel")
class StyleChannelEdit(ImageEdit):
    """``{kind: style-channel, layer: 6, channel: 501, strengths: [-10, 10]}``: column ``style-6-501@+10``.

    The deviation is that of 2,000 latents truncated by 0.7 in all layers (published: 100,000 by the same factor).
    """

    spec = StyleChannelSpec

    def __init__(self, spec: StyleChannelSpec, setting: EditSetting) -> None:
        generator = setting.generator
        if not isinstance(generator, StyleGAN2):
            raise ParamsError(f"edits: {generator.family} has no StyleSpace: style-channel needs a StyleGAN2")
        widths = [layer.conv.modulation.weight.shape[0] for layer, _ in generator.layers()]
        if spec.layer >= len(widths):
            raise ParamsError(f"edits: no style layer {spec.layer}: this generator has {len(widths)}, counted from 0")
        if spec.channel >= widths[spec.layer]:
            raise ParamsError(
                f"edits: no channel {spec.channel} in style layer {spec.layer}: it has {widths[spec.layer]}, from 0"
            )
        self.deviation = _deviation(generator, spec.layer, spec.channel)

    @classmethod
    def plan(cls, spec: StyleChannelSpec) -> list[PlannedEdit]:
        name = f"style-{spec.layer}-{spec.channel}"
        return [PlannedEdit(spec, f"{name}@{strength:+g}", "", strength) for strength in spec.strengths]

    def describe(self, picture: PlannedEdit) -> dict[str, Any]:
        spec: Any = picture.spec
        return {"layer": spec.layer, "channel": spec.channel, "strength": picture.strength, "samples": SAMPLES}

    def draw(self, generator: Generator, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit) -> Tensor:
        spec: Any = picture.spec

        def drawn(latents: Tensor) -> Tensor:
            styles = generator.styles(latents)  # type: ignore[operator]
            styles[spec.layer][:, spec.channel] += picture.strength * self.deviation
            return generator.synthesis_from_styles(styles)  # type: ignore[operator]

        return in_chunks(drawn, w_plus)


@torch.no_grad()
def _deviation(generator: StyleGAN2, layer: int, channel: int) -> float:
    z = torch.randn(SAMPLES, generator.z_dim, generator=torch.Generator().manual_seed(SEED))
    module, row = generator.layers()[layer]
    latents = generator.broadcast(generator.truncate(generator.mapping(z), PSI))[:, row]
    return module.conv.modulation(latents)[:, channel].std().item()
