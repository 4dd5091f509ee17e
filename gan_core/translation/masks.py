"""Masks of inpainting, by name; their random shapes are drawn from a random stream."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.errors import ParamsError
from gan_core.registry import Registry

Mask = Callable[[int, torch.Generator], Tensor]
MASKS: Registry[Mask] = Registry("mask")
"""Functions that map a side in pixels and a random stream to ``[side, side]`` bool, true where the image is hidden."""


def draw_mask(name: str, side: int, stream: torch.Generator) -> Tensor:
    """Draw the mask ``name``, ``[side, side]`` bool; raises ``ParamsError`` for an unknown one."""
    return MASKS.get(name)(side, stream)


def hide(images: Tensor, hidden: Tensor) -> Tensor:
    """Return images ``[B, 3, H, W]`` in [-1, 1] with mid-grey (0) where ``hidden [H, W]`` is true.

    Raises ``ParamsError`` for a mask that covers everything or has another size.
    """
    if hidden.shape != images.shape[2:]:
        raise ParamsError(f"the mask has {list(hidden.shape)} pixels, the picture {list(images.shape[2:])}")
    if hidden.all():
        raise ParamsError("the mask covers the whole picture: choose a smaller one")
    return images.masked_fill(hidden, 0.0)


def fill_box(side: int, left: int, top: int, width: int, height: int) -> Tensor:
    """Return a mask ``[side, side]`` that hides one box."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


@MASKS.register("centre")
def centre(side: int, stream: torch.Generator) -> Tensor:
    """Hide the centre, half as wide and half as high as the image: ``[side, side]`` bool."""
    return fill_box(side, side // 4, side // 4, side // 2, side // 2)


@MASKS.register("box")
def box(side: int, stream: torch.Generator) -> Tensor:
    """Hide a random box whose sides are a quarter to a half of the image's: ``[side, side]`` bool."""
    width, height = torch.randint(side // 4, side // 2 + 1, (2,), generator=stream).tolist()
    left = int(torch.randint(side - width + 1, (), generator=stream))
    top = int(torch.randint(side - height + 1, (), generator=stream))
    return fill_box(side, left, top, width, height)


@MASKS.register("half")
def half(side: int, stream: torch.Generator) -> Tensor:
    """Hide a random half, left, right, upper or lower: ``[side, side]`` bool."""
    mask = fill_box(side, 0, 0, side // 2, side)
    return mask.rot90(int(torch.randint(4, (), generator=stream)))


@MASKS.register("strokes")
def strokes(side: int, stream: torch.Generator) -> Tensor:
    """Hide three random strokes, about an eighth of the image wide: ``[side, side]`` bool."""
    ends = torch.rand(3, 2, 2, generator=stream)
    along = torch.linspace(0, 1, 2 * side)[:, None]
    points = torch.cat([a + (b - a) * along for a, b in ends]).mul(side - 1).round().long()
    thin = torch.zeros(side, side)
    thin[points[:, 1], points[:, 0]] = 1
    width = side // 16 * 2 + 1
    return F.max_pool2d(thin[None, None], width, stride=1, padding=width // 2)[0, 0] > 0
