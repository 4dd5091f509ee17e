"""Inputs of translation encoders, by name: made from an aligned image and its label map, or read from a row."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan_core.errors import ParamsError
from gan_core.judges.segmenter import CLASSES, LABELS
from gan_core.registry import Registry
from gan_core.rows import Row
from gan_core.storage.images import MAX_PIXELS, ImageError, decode_grey, decode_image, to_tensor
from gan_core.translation.degradations import check_factor, degrade
from gan_core.translation.masks import draw_mask, hide

Resampling = Literal["nearest", "bilinear"]
RESAMPLING: dict[Resampling, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
}
"""How label maps of another size are resized: by nearest neighbour, or as the published loader of pSp does."""
MASK = "mask"
"""The column of masks that are read."""
MIRRORED = {"left_eye": "right_eye", "right_eye": "left_eye"}


@dataclass(frozen=True)
class EncoderInput:
    """An encoder's input for one row: ``tensor [C, S, S]``.

    ``hidden [S, S]`` is true where a mask covers the image, and ``factor`` is that of a reduction.
    """

    tensor: Tensor
    hidden: Tensor | None = None
    factor: int = 1


class InputTransform(ABC):
    """A kind of encoder input. ``factors`` and ``masks`` are the choices when it is made at random.

    ``from_labels`` tells whether making it requires a label map, which has ``classes`` classes and is resized by
    ``resampling``, a key of ``RESAMPLING``.
    """

    from_labels: ClassVar[bool] = False

    def __init__(
        self,
        factors: Sequence[int] = (8,),
        masks: Sequence[str] = ("box",),
        classes: int = CLASSES,
        resampling: Resampling = "nearest",
    ) -> None:
        self.factors, self.masks, self.classes, self.resampling = tuple(factors), tuple(masks), classes, resampling

    @property
    def channels(self) -> int:
        """The number of channels C of the tensor, which the encoder must take."""
        return 3

    @abstractmethod
    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> EncoderInput:
        """Make the input from an image ``[3, S, S]`` in [-1, 1] and its label ids ``[S, S]``."""

    def read(self, row: Row, column: str, side: int) -> EncoderInput:
        """Read the input from a cell of a row and resize it to ``side``; raises ``ImageError`` for a bad cell."""
        return EncoderInput(picture_cell(row, column, side))

    def show(self, inputs: Tensor) -> Tensor:
        """Convert inputs ``[B, C, S, S]`` to images ``[B, 3, S, S]`` in [-1, 1] for display."""
        return inputs


INPUTS: Registry[type[InputTransform]] = Registry("input of a translation", "gan_core.translation", InputTransform)


@INPUTS.register("picture")
class PictureInput(InputTransform):
    """The aligned image, unchanged."""

    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> EncoderInput:
        return EncoderInput(image)


@INPUTS.register("low-resolution")
class LowResolutionInput(InputTransform):
    """An image that is reduced by one of ``factors`` and resized to its original size."""

    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> EncoderInput:
        factor = self.factors[int(torch.randint(len(self.factors), (), generator=stream))]
        return EncoderInput(degrade(image[None], factor)[0], factor=factor)

    def read(self, row: Row, column: str, side: int) -> EncoderInput:
        """Read a small image; its size determines the factor.

        Raises ``ImageError`` if it doesn't divide ``side``, or is too small to be compared with an output.
        """
        image = cell_image(row, column)
        width, height = image.size
        if width != height or side % width:
            raise ImageError("bad_size", f"a small picture of {width}x{height} pixels: its side must divide {side}")
        try:
            check_factor(side // width, side, side)
        except ParamsError as error:
            raise ImageError("bad_size", f"a small picture of {width}x{height} pixels: {error}") from None
        return EncoderInput(resize_square(image, side), factor=side // width)


@INPUTS.register("masked")
class MaskedInput(InputTransform):
    """An image covered by one of ``masks``, or by the row's own in the column ``mask`` (white is covered)."""

    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> EncoderInput:
        name = self.masks[int(torch.randint(len(self.masks), (), generator=stream))]
        hidden = draw_mask(name, image.shape[-1], stream)
        return EncoderInput(hide(image[None], hidden)[0], hidden)

    def read(self, row: Row, column: str, side: int) -> EncoderInput:
        image = picture_cell(row, column, side)
        mask = cell_image(row, MASK).convert("L")
        if mask.width != mask.height:
            raise ImageError("bad_size", f"a mask of {mask.width}x{mask.height} pixels: a square one is expected")
        hidden = torch.from_numpy(np.array(mask.resize((side, side), Image.Resampling.NEAREST))) > 127
        if hidden.all():
            raise ImageError("bad_mask", "the mask covers the whole picture: nothing is left to go by")
        if not hidden.any():
            raise ImageError("bad_mask", "the mask covers nothing: white (above 127 of 255) is what it covers")
        return EncoderInput(hide(image[None], hidden)[0], hidden)


@INPUTS.register("labels")
class LabelInput(InputTransform):
    """A label map as one channel of zeros and ones per class."""

    from_labels = True

    @property
    def channels(self) -> int:
        return self.classes

    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> EncoderInput:
        assert labels is not None
        return EncoderInput(one_hot(labels, self.classes))

    def read(self, row: Row, column: str, side: int) -> EncoderInput:
        return EncoderInput(one_hot(label_cell(row, column, side, self.classes, self.resampling), self.classes))

    def show(self, inputs: Tensor) -> Tensor:
        return colour_labels(inputs.argmax(1), self.classes)


@INPUTS.register("sketch")
class SketchInput(InputTransform):
    """A line drawing with lines 0 on a background of 1; made from a label map, it has the borders between classes."""

    from_labels = True

    @property
    def channels(self) -> int:
        return 1

    def make(self, image: Tensor, labels: Tensor | None, stream: torch.Generator) -> EncoderInput:
        assert labels is not None
        return EncoderInput(draw_sketch(labels[None])[0])

    def read(self, row: Row, column: str, side: int) -> EncoderInput:
        return EncoderInput(picture_cell(row, column, side).mean(0, keepdim=True).add(1).div(2))

    def show(self, inputs: Tensor) -> Tensor:
        return inputs.mul(2).sub(1).expand(-1, 3, -1, -1)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Convert label ids ``[..., S, S]`` to zeros and ones ``[..., classes, S, S]``, float32."""
    return F.one_hot(labels.long(), classes).movedim(-1, -3).float()


def draw_sketch(labels: Tensor) -> Tensor:
    """Draw the borders between label ids ``[B, S, S]`` as sketches ``[B, 1, S, S]``: lines 0 on a background of 1.

    A pixel is on a line where its label differs from that above it or to its left.
    """
    lines = labels.new_zeros(labels.shape, dtype=torch.bool)
    lines[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    lines[:, :, 1:] |= labels[:, :, 1:] != labels[:, :, :-1]
    return 1 - lines[:, None].float()


def mirror_labels(labels: Tensor) -> Tensor:
    """Mirror label ids ``[..., S, S]`` and swap the left and the right eye."""
    ids = torch.tensor([LABELS.index(MIRRORED.get(name, name)) for name in LABELS], device=labels.device)
    return ids[labels.flip(-1).long()].to(labels.dtype)


def colour_labels(labels: Tensor, classes: int) -> Tensor:
    """Draw label ids ``[B, S, S]`` as images ``[B, 3, S, S]`` in [-1, 1] with a colour per class."""
    hue = torch.arange(classes, device=labels.device) / classes
    palette = torch.stack([torch.cos(2 * torch.pi * (hue + shift / 3)) for shift in range(3)], 1)
    palette[0] = -0.9
    return palette[labels.long()].permute(0, 3, 1, 2).contiguous()


def cell_image(row: Row, column: str) -> Image.Image:
    """Decode an image cell; raises ``ImageError`` if it is missing or can't be decoded."""
    return decode_image(_cell_bytes(row, column), MAX_PIXELS)


def _cell_bytes(row: Row, column: str) -> bytes | None:
    return (row.get(column) or {}).get("bytes")


def resize_square(image: Image.Image, side: int) -> Tensor:
    """Return a square image as ``[3, side, side]`` in [-1, 1], resampled bilinearly if its size differs.

    Raises ``ImageError`` for an image that isn't square, because translation expects aligned images.
    """
    if image.width != image.height:
        raise ImageError("bad_size", f"{image.width}x{image.height} pixels: an aligned, square picture is expected")
    resized = image if image.width == side else image.resize((side, side), Image.Resampling.BILINEAR)
    return to_tensor([resized])[0]


def picture_cell(row: Row, column: str, side: int) -> Tensor:
    """Decode an image cell to ``[3, side, side]`` in [-1, 1]; raises ``ImageError`` for a bad cell."""
    return resize_square(cell_image(row, column), side)


def label_cell(row: Row, column: str, side: int, classes: int, resampling: Resampling = "nearest") -> Tensor:
    """Read a label map, a grey image of 8 or 16 bits whose values are class ids, as ids ``[side, side]``, uint8.

    A map of another size keeps its classes with ``nearest``. With ``bilinear`` the ids themselves are interpolated, as
    in pSp's code, so that classes between two others appear along their borders. Raises ``ImageError`` for a bad cell,
    an image that isn't square or grey, and unknown classes.
    """
    pixels = decode_grey(_cell_bytes(row, column), MAX_PIXELS)
    if pixels is None:
        raise ImageError("bad_labels", "the label map has colours: store class ids as grey values")
    if pixels.shape[0] != pixels.shape[1]:
        raise ImageError("bad_size", f"{pixels.shape[1]}x{pixels.shape[0]} pixels: a square label map is expected")
    if (highest := int(pixels.max())) >= classes:
        raise ImageError("bad_labels", f"the label map has class {highest}, but classes are 0 to {classes - 1}")
    ids = np.asarray(Image.fromarray(pixels.astype(np.uint8)).resize((side, side), RESAMPLING[resampling]))
    return torch.from_numpy(ids.copy())


def check_factors(factors: Sequence[int], side: int) -> None:
    """Raise ``ParamsError`` if images of ``side`` pixels can't be reduced by one of ``factors``."""
    for factor in factors:
        check_factor(factor, side, side)
