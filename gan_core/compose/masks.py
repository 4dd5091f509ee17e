"""Blending weights of the second image: boxes in shares of the image, ramps, and soft masks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.errors import ParamsError, near_matches
from gan_core.generators.walk import Axis, Share
from gan_core.storage.images import MAX_PIXELS, ImageError, decode_image, to_tensor
from gan_core.storage.urls import read_bytes

FRAME = 256
"""Side of the mask that boxes are drawn into, as published, for images of any size."""

PARTS = ("eyes", "nose", "mouth", "hair", "face")
MIDDLE = ((0.39, 0.47), (0.61, 0.47), (0.5, 0.6), (0.42, 0.71), (0.58, 0.71))
"""Landmarks of a centred face in shares of the image, the default of ``named_box``."""


class Box(NamedTuple):
    """A rectangle in shares of the image's width and height, 0 to 1."""

    left: float
    top: float
    width: float
    height: float


def check_box(box: Sequence[float]) -> Box:
    """Return ``box`` as a ``Box``; raises ``ParamsError`` unless it is four numbers, not empty and inside the image."""
    if len(box) != 4 or not all(math.isfinite(side) for side in box):
        raise ParamsError(f"box {list(box)}: give left, top, width and height in shares of the image, 0 to 1")
    left, top, width, height = box
    if width <= 0 or height <= 0:
        raise ParamsError(f"box {list(box)} is empty: give a width and a height above 0")
    if min(left, top) < 0 or left + width > 1 + 1e-6 or top + height > 1 + 1e-6:
        raise ParamsError(
            f"box {list(box)} lies outside the image: left + width and top + height must be within 0 to 1"
        )
    return Box(left, top, width, height)


def named_box(name: str, points: Tensor | None = None) -> Box:
    """Return the box of a part of the face from landmarks ``[5, 2]`` in shares of the image.

    ``points`` default to those of a centred face. The size of a part is proportional to the distances between the eyes
    and from the eyes to the mouth, and boxes are clipped to the image. Raises ``ParamsError`` for an unknown name.
    """
    if name not in PARTS:
        raise ParamsError(f"unknown box {name!r}{near_matches(name, PARTS)}")
    left, right, nose, first, last = (points if points is not None else torch.tensor(MIDDLE)).tolist()
    apart, eyes_y, mouth_y = right[0] - left[0], (left[1] + right[1]) / 2, (first[1] + last[1]) / 2
    down = mouth_y - eyes_y
    sides = {
        "eyes": (left[0] - 0.5 * apart, eyes_y - 0.45 * apart, right[0] + 0.5 * apart, eyes_y + 0.25 * apart),
        "nose": (nose[0] - 0.35 * apart, eyes_y + 0.2 * down, nose[0] + 0.35 * apart, nose[1] + 0.25 * down),
        "mouth": (first[0] - 0.25 * apart, mouth_y - 0.3 * down, last[0] + 0.25 * apart, mouth_y + 0.35 * down),
        "hair": (left[0] - 1.1 * apart, 0.0, right[0] + 1.1 * apart, eyes_y - 0.4 * apart),
        "face": (left[0] - 0.6 * apart, eyes_y - 0.6 * apart, right[0] + 0.6 * apart, mouth_y + 0.6 * down),
    }
    x0, y0, x1, y1 = (min(max(side, 0.0), 1.0) for side in sides[name])
    return check_box((x0, y0, x1 - x0, y1 - y0))


def box_mask(boxes: Sequence[Sequence[float]]) -> Tensor:
    """Draw boxes into a soft mask ``[1, 1, 256, 256]`` with values 0 to 1; several boxes are combined by their maximum.

    As published, each box is blurred by a Gaussian whose kernel is about half as large as the box and whose sigma is
    the size of the kernel, which makes it nearly a box filter. (The published script uses only the first box, and a
    side of 256 pixels wraps to 0.) Raises ``ParamsError`` for no box, and for a box that ``check_box`` rejects.
    """
    if not boxes:
        raise ParamsError("no box: name at least one, or give a mask")
    return torch.stack([_soft_box(check_box(box)) for box in boxes]).amax(0).clamp(max=1)


def check_mask(mask: Tensor) -> Tensor:
    """Return a mask ``[H, W]`` or ``[B, 1, H, W]`` as ``[1 or B, 1, H, W]`` float32.

    Raises ``ParamsError`` for another shape, an empty mask, and values outside of 0 to 1.
    """
    if mask.ndim not in (2, 4) or (mask.ndim == 4 and mask.shape[1] != 1):
        raise ParamsError(f"mask of shape {list(mask.shape)}: give [H, W] or [B, 1, H, W]")
    if not mask.any():
        raise ParamsError("the mask is empty: nothing would be taken from the reference")
    if not (mask.min() >= 0 and mask.max() <= 1):
        raise ParamsError(f"the mask has values from {mask.min():g} to {mask.max():g}: give values from 0 to 1")
    return mask.float() if mask.ndim == 4 else mask.float()[None, None]


def read_mask(url: str) -> Tensor:
    """Return the brightness of an image file as a mask ``[1, 1, H, W]``; white is 1.

    Raises ``ParamsError`` for a file that is missing, is not an image, or is completely black.
    """
    try:
        picture = to_tensor([decode_image(read_bytes(url), MAX_PIXELS)])
        return check_mask((picture.mean(1, keepdim=True) / 2 + 0.5).clamp(0, 1))
    except FileNotFoundError:
        raise ParamsError(f"mask {url}: there is no such file, check its path") from None
    except (OSError, ImageError, ParamsError) as error:
        raise ParamsError(f"mask {url}: {error}") from None


def ramp(length: int, flat_ends: bool = True) -> Tensor:
    """Return ``[length]`` values from 0 to 1; with ``flat_ends`` the first quarter is 0 and the last quarter is 1."""
    flat = length // 4 if flat_ends else 0
    return torch.cat([torch.zeros(flat), torch.linspace(0, 1, length - 2 * flat), torch.ones(flat)])


def ramp_along(axis: Axis, flat_ends: bool = True) -> Share:
    """Return a share that rises with ``ramp`` from left to right (horizontal) or from top to bottom (vertical)."""

    def share(layer: int, height: int, width: int) -> Tensor:
        return ramp(width, flat_ends).view(1, 1, 1, -1) if axis == "horizontal" else ramp(height, flat_ends)[:, None]

    return share


def kernel_size(side: int) -> int:
    """Return the size of the blur kernel for a box of ``side`` pixels: half of it, made odd, and at least 1."""
    half = side // 2
    return half + half % 2 + 1


def _soft_box(box: Box) -> Tensor:
    left, top, width, height = (max(round(FRAME * share), i // 2) for i, share in enumerate(box))
    mask = torch.zeros(1, 1, FRAME, FRAME)
    mask[..., top : top + height, left : left + width] = 1
    for vertical, size in ((True, kernel_size(height)), (False, kernel_size(width))):
        offset = torch.arange(size) - (size - 1) / 2
        taps = torch.exp(-0.5 * (offset / size).square())
        kernel = (taps / taps.sum()).view(1, 1, -1, 1) if vertical else (taps / taps.sum()).view(1, 1, 1, -1)
        pad = size // 2
        mask = F.conv2d(F.pad(mask, (0, 0, pad, pad) if vertical else (pad, pad, 0, 0), mode="reflect"), kernel)
    return mask
