"""Edits of a single channel of StyleSpace (Wu et al. 2021)."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from gan_core.batching import chunk_size, in_chunks
from gan_core.editing.planned import PlannedEdit
from gan_core.editing.stylespace import SAMPLES, is_truncated, style_deviations, style_widths, with_styles
from gan_core.edits.base import EDIT_KINDS, EditSetting, ImageEdit
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.params import EditSpec
from gan_core.rows import Row


class StyleChannelSpec(EditSpec):
    """One channel of StyleSpace is moved; layer and channel are those of published lists, such as (6, 501)."""

    kind: Literal["style-channel"] = "style-channel"
    layer: Annotated[int, Field(ge=0)]
    """The layer, in the order of evaluation, with those of ToRGB (20 at 256 px, 26 at 1024)."""
    channel: Annotated[int, Field(ge=0)]
    """The channel of that layer."""
    strengths: Annotated[list[float], Field(min_length=1)]
    """One column of pictures each, in standard deviations of the channel."""


@EDIT_KINDS.register("style-channel")
class StyleChannelEdit(ImageEdit[StyleChannelSpec]):
    """``{kind: style-channel, layer: 6, channel: 501, strengths: [-10, 10]}``: column ``style-6-501@+10``.

    The standard deviation is that of ``gan_core.editing.stylespace.style_deviations``.
    """

    spec = StyleChannelSpec

    def __init__(self, spec: StyleChannelSpec, setting: EditSetting) -> None:
        generator = setting.generator.model
        widths = style_widths(generator)
        if spec.layer >= len(widths):
            raise ParamsError(f"edits: no style layer {spec.layer}: this generator has {len(widths)}, counted from 0")
        if spec.channel >= widths[spec.layer]:
            raise ParamsError(
                f"edits: no channel {spec.channel} in style layer {spec.layer}: it has {widths[spec.layer]}, from 0"
            )
        self.deviation = style_deviations(generator)[spec.layer][spec.channel].item()
        self.truncated = is_truncated(generator, spec.layer)

    @classmethod
    def plan(cls, spec: StyleChannelSpec) -> list[PlannedEdit[StyleChannelSpec]]:
        name = f"style-{spec.layer}-{spec.channel}"
        return [PlannedEdit(spec, f"{name}@{strength:+g}", "", strength) for strength in spec.strengths]

    def describe(self, picture: PlannedEdit[StyleChannelSpec]) -> dict[str, object]:
        spec = picture.spec
        about: dict[str, object] = {
            "layer": spec.layer,
            "channel": spec.channel,
            "strength": picture.strength,
            "samples": SAMPLES,
        }
        return about if self.truncated else about | {"truncated": False}  # new: once all layers were truncated

    def draw(
        self, generator: Generator, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit[StyleChannelSpec]
    ) -> Tensor:
        spec, styled = picture.spec, with_styles(generator)

        def drawn(latents: Tensor) -> Tensor:
            styles = styled.styles(latents)
            styles[spec.layer][:, spec.channel] += picture.strength * self.deviation
            return styled.synthesis_from_styles(styles)

        return in_chunks(drawn, w_plus, chunk_size(generator.size))
