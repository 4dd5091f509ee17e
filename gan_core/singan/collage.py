"""Two pictures in one, half of each, and which of its pixels are made anew (harmonisation: SinGAN, section 5)."""

import torch
from torch import Tensor

from gan_core.generators.walk import DIMENSION, Axis

WIDENED, SOFTNESS = 7 / 250, 5 / 250
"""As published, what is pasted is widened by a disc of 7 pixels and blurred by a Gaussian of 5, in 250 pixels."""


def collage(first: Tensor, second: Tensor, axis: Axis) -> Tensor:
    """Return images ``[..., H, W]``: the first half of the first (left, or top if vertical), then the second's."""
    dimension = DIMENSION[axis] - 4
    half = first.shape[dimension] // 2
    rest = second.shape[dimension] - half
    return torch.cat([first.narrow(dimension, 0, half), second.narrow(dimension, half, rest)], dimension)


def pasted_share(size: int, axis: Axis) -> Tensor:
    """Return how much of each pixel of a collage is what was pasted, ``[1, size]`` or ``[size, 1]``, from 0 to 1.

    It is a half at ``WIDENED`` before the middle: the pasted picture's side is made anew, and a little more.
    """
    middle = size // 2 - WIDENED * size
    place = torch.arange(size) + 0.5
    share = torch.special.ndtr((place - middle) / (SOFTNESS * size))
    return share[None] if axis == "horizontal" else share[:, None]
