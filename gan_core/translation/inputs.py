"""What the encoder of a task sees, by name: made from an aligned picture and its label map, or read from a row."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan_core.registry import Registry
from gan_core.storage.images import MAX_PIXELS, ImageError, decode_image, to_tensor
from gan_core.toy.renderer import SEGMENTATION_LABELS
from gan_core.toy.renderer.render import outline
from gan_core.translation.degradations import check_factor, degrade
from gan_core.translation.masks import draw_mask, hide

MIRRORED = {"left_eye": "right_eye", "right_eye": "left_eye"}


@dataclass(frozen=True)
class Seen:
    """What an encoder sees of one row, ``tensor [C, S, S]``; ``hidden [S, S]`` where a mask covers it."""

    tensor: Tensor
    hidden: Tensor | None = None
    factor: int = 1


class InputTransform(ABC):
    """A kind of input; ``factors`` and ``masks`` are what is drawn from where it is made.

    ``channels`` is what the encoder needs, ``from_labels`` whether making it takes a label map, of ``classes`` classes.
    """

    from_labels: ClassVar[bool] = False

    def __init__(
        self, factors: Sequence[int] = (8,), masks: Sequence[str] = ("box",), classes: int = len(SEGMENTATION_LABELS)
    ) -> None:
        self.factors, self.masks, self.classes = tuple(factors), tuple(masks), classes

    @property
    def channels(self) -> int:
        """Channels of the tensor."""
        return 3

    @abstractmethod
    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> Seen:
        """Make the input from a picture ``[3, S, S]`` in [-1, 1] and its label ids ``[S, S]``."""

    def read(self, row: dict[str, Any], column: str, side: int) -> Seen:
        """Read the input itself from a cell of a row, brought to ``side``; raises ``ImageError`` for a bad cell."""
        return Seen(picture_cell(row, column, side))

    def show(self, inputs: Tensor) -> Tensor:
        """Inputs ``[B, C, S, S]`` as pictures ``[B, 3, S, S]`` in [-1, 1]."""
        return inputs


INPUTS: Registry[type[InputTransform]] = Registry("input of a translation", "gan_core.translation", InputTransform)


@INPUTS.register("picture")
class PictureInput(InputTransform):
    """The aligned picture as it is."""

    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> Seen:
        return Seen(image)


@INPUTS.register("low-resolution")
class LowResolutionInput(InputTransform):
    """A picture reduced by one of ``factors`` and brought back to its size."""

    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> Seen:
        factor = self.factors[int(torch.randint(len(self.factors), (), generator=stream))]
        return Seen(degrade(image[None], factor)[0], factor=factor)

    def read(self, row: dict[str, Any], column: str, side: int) -> Seen:
        """A small picture whose size divides ``side`` tells its factor; raises ``ImageError`` for another."""
        image = cell_image(row, column)
        width, height = image.size
        if width != height or side % width:
            raise ImageError("bad_size", f"a small picture of {width}x{height} pixels: its side must divide {side}")
        return Seen(bring_to(image, side), factor=side // width)


@INPUTS.register("masked")
class MaskedInput(InputTransform):
    """A picture with one of ``masks`` over it, or a row's own in its column ``mask`` (white hides)."""

    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> Seen:
        name = self.masks[int(torch.randint(len(self.masks), (), generator=stream))]
        hidden = draw_mask(name, image.shape[-1], stream)
        return Seen(hide(image[None], hidden)[0], hidden)

    def read(self, row: dict[str, Any], column: str, side: int) -> Seen:
        image = picture_cell(row, column, side)
        mask = cell_image(row, "mask").convert("L").resize((side, side), Image.Resampling.NEAREST)
        hidden = torch.from_numpy(np.array(mask)) > 127
        if hidden.all():
            raise ImageError("bad_mask", "the mask covers the whole picture: nothing is left to go by")
        return Seen(hide(image[None], hidden)[0], hidden)


@INPUTS.register("labels")
class LabelInput(InputTransform):
    """A label map, one channel of zeros and ones for each class."""

    from_labels = True

    @property
    def channels(self) -> int:
        return self.classes

    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> Seen:
        assert labels is not None
        return Seen(one_hot(labels, self.classes))

    def read(self, row: dict[str, Any], column: str, side: int) -> Seen:
        return Seen(one_hot(label_cell(row, column, side, self.classes), self.classes))

    def show(self, inputs: Tensor) -> Tensor:
        return colour_labels(inputs.argmax(1), self.classes)


@INPUTS.register("sketch")
class SketchInput(InputTransform):
    """A line drawing, lines 0 on paper 1; made from a label map it is the borders between its classes."""

    from_labels = True

    @property
    def channels(self) -> int:
        return 1

    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> Seen:
        assert labels is not None
        return Seen(draw_sketch(labels[None])[0])

    def read(self, row: dict[str, Any], column: str, side: int) -> Seen:
        return Seen(picture_cell(row, column, side).mean(0, keepdim=True).add(1).div(2))

    def show(self, inputs: Tensor) -> Tensor:
        return inputs.mul(2).sub(1).expand(-1, 3, -1, -1)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Label ids ``[..., S, S]`` -> ``[..., classes, S, S]`` float32 of zeros and ones."""
    return F.one_hot(labels.long(), classes).movedim(-1, -3).float()


def draw_sketch(labels: Tensor) -> Tensor:
    """Label ids ``[B, S, S]`` -> the borders between them ``[B, 1, S, S]``, as the renderer draws its sketches."""
    return outline(labels.repeat_interleave(2, 1).repeat_interleave(2, 2))


def mirror_labels(labels: Tensor) -> Tensor:
    """Label ids ``[..., S, S]`` of the mirrored picture: left becomes right."""
    ids = torch.tensor([SEGMENTATION_LABELS.index(MIRRORED.get(name, name)) for name in SEGMENTATION_LABELS])
    return ids[labels.flip(-1).long()].to(labels.dtype)


def colour_labels(labels: Tensor, classes: int) -> Tensor:
    """Label ids ``[B, S, S]`` -> pictures ``[B, 3, S, S]`` in [-1, 1], a colour for each class."""
    hue = torch.arange(classes) / classes
    palette = torch.stack([torch.cos(2 * torch.pi * (hue + shift / 3)) for shift in range(3)], 1)
    palette[0] = -0.9
    return palette[labels.long()].permute(0, 3, 1, 2).contiguous()


def cell_image(row: dict[str, Any], column: str) -> Image.Image:
    """Decode an image cell; raises ``ImageError`` where there is none."""
    return decode_image((row.get(column) or {}).get("bytes"), MAX_PIXELS)


def bring_to(image: Image.Image, side: int) -> Tensor:
    """A square picture as ``[3, side, side]`` in [-1, 1], resampled bilinearly if need be.

    Raises ``ImageError`` for a picture that isn't square: translation takes aligned ones.
    """
    if image.width != image.height:
        raise ImageError("bad_size", f"{image.width}x{image.height} pixels: an aligned, square picture is expected")
    resized = image if image.width == side else image.resize((side, side), Image.Resampling.BILINEAR)
    return to_tensor([resized])[0]


def picture_cell(row: dict[str, Any], column: str, side: int) -> Tensor:
    """Decode an image cell to ``[3, side, side]`` in [-1, 1]; raises ``ImageError``."""
    return bring_to(cell_image(row, column), side)


def label_cell(row: dict[str, Any], column: str, side: int, classes: int) -> Tensor:
    """Read a label map, a grey picture whose values are class ids, as ids ``[side, side]``; raises ``ImageError``."""
    pixels = np.asarray(cell_image(row, column))
    if pixels.shape[0] != pixels.shape[1]:
        raise ImageError("bad_size", f"{pixels.shape[1]}x{pixels.shape[0]} pixels: a square label map is expected")
    if (pixels != pixels[..., :1]).any():
        raise ImageError("bad_labels", "the label map has colours: store class ids as grey values")
    ids = np.asarray(Image.fromarray(pixels[..., 0]).resize((side, side), Image.Resampling.NEAREST))
    if (highest := int(pixels.max())) >= classes:
        raise ImageError("bad_labels", f"the label map has class {highest}, but classes are 0 to {classes - 1}")
    return torch.from_numpy(ids.copy())


def check_factors(factors: Sequence[int], side: int) -> None:
    """Raise ``ParamsError`` for a factor that pictures of ``side`` can't be reduced by."""
    for factor in factors:
        check_factor(factor, side, side)
