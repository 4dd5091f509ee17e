"""HFGI (Wang et al. 2022, "High-Fidelity GAN Inversion for Image Attribute Editing"): detail as features of a layer.

What an encoder's picture lacks, the residual, is aligned with the picture that is drawn, edited or not, and becomes a
scale and a shift of the maps of one layer. So a row keeps its detail in every edit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.checkpoints.files import Loaded
from gan_core.encoders.backbone import ResidualUnit, stem
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.discriminator import EqualConv
from gan_core.generators.layers import SQRT2
from gan_core.loading import load_model
from gan_core.registry import Arguments, Registry

PAIR = 6
"""Channels of a residual and of the picture that it is aligned with."""


def units_of(inputs: int, outputs: int, stride: int, count: int) -> nn.Sequential:
    """Build ``count`` residual units without gates, the first of which changes width and size."""
    first = ResidualUnit(inputs, outputs, stride, gated=False)
    return nn.Sequential(first, *(ResidualUnit(outputs, outputs, 1, gated=False) for _ in range(count - 1)))


def narrowing(inputs: int, middle: int, outputs: int, count: int) -> nn.Sequential:
    """Build ``count`` residual units without gates, the first two of which change the width."""
    widths = [inputs, middle, outputs, *[outputs] * (count - 2)]
    return nn.Sequential(*(ResidualUnit(a, b, 1, gated=False) for a, b in pairwise(widths)))


class ResidualAligner(nn.Module):
    """From residuals and pictures ``[B, 6, H, W]`` to residuals ``[B, 3, H, W]`` that fit the pictures.

    Units of ``widths``, each group at half the size of the one before, and back up, with the published names.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 48, 64), units: int = 3) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.conv_layer1 = stem(PAIR, first)
        self.conv_layer2 = units_of(first, second, 2, units)
        self.conv_layer3 = units_of(second, third, 2, units)
        self.conv_layer4 = units_of(third, fourth, 2, units)
        self.dconv_layer1 = narrowing(fourth + third, fourth, second, units)
        self.dconv_layer2 = narrowing(2 * second, second, first, units)
        self.dconv_layer3 = narrowing(2 * first, first, 3, units)

    def forward(self, pairs: Tensor) -> Tensor:
        whole = self.conv_layer1(pairs)
        half = self.conv_layer2(whole)
        quarter = self.conv_layer3(half)
        x = self.conv_layer4(quarter)
        x = self.dconv_layer1(torch.cat([doubled(x), quarter], 1))
        x = self.dconv_layer2(torch.cat([doubled(x), half], 1))
        return self.dconv_layer3(torch.cat([doubled(x), whole], 1))


class ResidualEncoder(nn.Module):
    """From residuals ``[B, 3, H, W]`` to a scale and a shift ``[B, channels, h, w]``, with the published names.

    ``strides`` are those of the second and third group of units: published 2 and 2, so that h is a quarter of H.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], strides: Sequence[int], units: int, hidden: int | None
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.conv_layer1 = stem(3, first)
        self.conv_layer2 = units_of(first, second, strides[0], units)
        self.conv_layer3 = units_of(second, third, strides[1], units)
        self.condition_scale3 = Condition(third, hidden or channels, channels)
        self.condition_shift3 = Condition(third, hidden or channels, channels)

    def forward(self, residuals: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.conv_layer3(self.conv_layer2(self.conv_layer1(residuals)))
        return self.condition_scale3(maps), self.condition_shift3(maps)


class Condition(nn.Sequential):
    """Two equalised convolutions with a leaky ReLU between them; begins with 0, so that nothing is changed."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        last = BiasedConv(hidden, outputs, 3)
        nn.init.zeros_(last.weight)
        super().__init__(BiasedConv(inputs, hidden, 3), ScaledLeakyReLU(), last)


class BiasedConv(EqualConv):
    """An equalised convolution with a bias."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.bias[:, None, None]


class ScaledLeakyReLU(nn.Module):
    """Leaky ReLU times the square root of 2."""

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2) * SQRT2


FEATURES: Registry[type["HFGI"]] = Registry("feature network", "gan_core.inversion")


@FEATURES.register("hfgi")
class HFGI(nn.Module):
    """A residual aligner and a residual encoder, whose result acts after the convolution ``convs[layer]``.

    ``channels`` are those of that layer, and its maps have ``input_size`` over the product of ``strides`` pixels a
    side. Published: layer 6 (the first of 64 px) with 512 channels, and the default sizes; the file's own names.
    """

    name = "hfgi"

    def __init__(
        self,
        channels: int = 512,
        layer: int = 6,
        input_size: int = 256,
        aligner: Sequence[int] = (16, 32, 48, 64),
        residue: Sequence[int] = (32, 48, 64),
        strides: Sequence[int] = (2, 2),
        units: int = 3,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        if units < 2 or input_size % 8 or input_size != side_of(layer) * strides[0] * strides[1]:
            raise ParamsError(
                f"features of {input_size} px, strides {list(strides)}, {units} units don't fit layer {layer}: its "
                f"maps have {side_of(layer)} px a side, and two units or more are needed"
            )
        self.arguments: Arguments = {
            "channels": channels,
            "layer": layer,
            "input_size": input_size,
            "aligner": list(aligner),
            "residue": list(residue),
            "strides": list(strides),
            "units": units,
            "hidden": hidden,
        }
        self.channels, self.layer, self.input_size = channels, layer, input_size
        self.grid_align = ResidualAligner(aligner, units)
        self.residue = ResidualEncoder(channels, residue, strides, units, hidden)

    @classmethod
    def for_generator(cls, generator: Generator, **network: Any) -> "HFGI":
        """Build one for ``generator``, with the channels of its layer ``network["layer"]``.

        Raises ``CheckpointError`` for a generator without that layer.
        """
        layer = network.get("layer", 6)
        return cls(channels=generator.get_parameter(check_layer(generator, layer)).shape[1], **network)

    @property
    def resolution(self) -> int:
        """The side in pixels of the maps that are changed: a generator's part below it stays as it is."""
        return side_of(self.layer)

    def look(self, images: Tensor) -> Tensor:
        """Return pictures ``[B, 3, S, S]`` as the networks see them: in [-1, 1], ``[B, 3, input_size, input_size]``."""
        shape = (self.input_size, self.input_size)
        images = images.clamp(-1, 1)
        if images.shape[2:] == shape:
            return images
        return F.interpolate(images, shape, mode="bilinear", align_corners=False)

    def residual(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Return what is missing in pictures ``drawn [B, 3, S, S]`` of ``images [B, 3, H, H]``, as the networks see."""
        side = self.input_size
        if images.shape[-1] > side:
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return self.look(images) - self.look(drawn)

    def conditions(self, residual: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift for pictures ``drawn [B, 3, S, S]`` and residuals of the pictures before an edit."""
        return self.residue(self.aligned(residual, drawn))

    def aligned(self, residual: Tensor, drawn: Tensor) -> Tensor:
        """Return residuals ``[B, 3, input_size, input_size]`` that fit the pictures ``drawn``."""
        return self.grid_align(torch.cat([residual, self.look(drawn)], 1))

    def detailed(
        self, generator: Generator, w_plus: Tensor, images: Tensor, kept: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return pictures ``[B, 3, S, S]`` of ``w_plus`` without and with the detail of ``images``, and residuals.

        ``kept`` is what storage makes of residuals ``[B, 3, input_size, input_size]``.
        """
        below = generator.lower(w_plus, self.resolution)
        coarse = generator.upper(below, w_plus, self.resolution)
        residual = kept(self.residual(images, coarse))
        with self.injected(generator, *self.conditions(residual, coarse)):
            return coarse, generator.upper(below, w_plus, self.resolution), residual

    def redrawn(self, generator: Generator, draw: Callable[[], Tensor], residual: Tensor) -> Tensor:
        """Return what ``draw`` gives with detail: it draws ``[B, 3, S, S]`` by ``generator``, twice.

        ``residual`` is ``[B or 1, 3, input_size, input_size]``. Raises ``ParamsError`` for pictures of another shape
        than the generator's own.
        """
        drawn = draw()
        if drawn.shape[-2:] != (generator.size, generator.size):
            raise ParamsError(
                f"detail of features can't be drawn in a picture of {drawn.shape[-1]}x{drawn.shape[-2]} px: "
                f"the generator's own has {generator.size} px a side"
            )
        with self.injected(generator, *self.conditions(residual.expand(len(drawn), -1, -1, -1), drawn)):
            return draw()

    @contextmanager
    def injected(self, generator: Generator, scale: Tensor, shift: Tensor) -> Iterator[None]:
        """Multiply the layer's maps by 1 + ``scale`` and add ``shift`` (each ``[B, channels, h, w]``) in a block."""

        def change(module: nn.Module, given: Any, maps: Tensor) -> Tensor:
            return maps * (1 + scale.to(maps.dtype)) + shift.to(maps.dtype)

        hook = generator.get_submodule(f"convs.{self.layer}").register_forward_hook(change)
        try:
            yield
        finally:
            hook.remove()

    def check(self, generator: Generator) -> None:
        """Raise ``CheckpointError`` if the generator's layer has another width, or isn't there."""
        width = generator.get_parameter(check_layer(generator, self.layer)).shape[1]
        if width != self.channels:
            raise CheckpointError(
                f"the features have {self.channels} channels, but layer {self.layer} of this generator has {width}: "
                "choose those trained for this generator"
            )


def side_of(layer: int) -> int:
    """Return the side in pixels of the maps after ``convs[layer]``."""
    return 2 ** (layer // 2 + 3)


def doubled(x: Tensor) -> Tensor:
    """Enlarge maps ``[B, C, H, W]`` to twice their size."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def check_layer(generator: Generator, layer: int) -> str:
    """Return the name of a layer's filters; raises ``CheckpointError`` for a generator without it."""
    name = f"convs.{layer}.conv.weight"
    if name not in dict(generator.named_parameters()):
        raise CheckpointError(f"features act at the layer convs.{layer}, and this {generator.family!r} has none")
    return name


def load_features(path: str | Path, generator: Loaded[Generator]) -> Loaded[HFGI]:
    """Build the feature network of a checkpoint; raises ``CheckpointError`` if it was made for another generator."""
    found: Loaded[HFGI] = load_model(path, "features", FEATURES, None)
    found.model.check(generator.model)
    found.check_made_for(
        generator,
        "train them again (`python -m tasks.train train-features`), or name those made for this generator",
    )
    return found
