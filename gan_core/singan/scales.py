"""The sizes of a picture in SinGAN's pyramid, and the way from one to another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gan_core.errors import ParamsError
from gan_core.singan.networks import RECEPTIVE_FIELD

Size = tuple[int, int]
"""Height and width, in pixels."""
ROUNDING = 1e-9
"""What rounding may add to a length that is whole: it isn't rounded up for that."""


@dataclass(frozen=True)
class Scales:
    """Sizes of a picture, the smallest first, each ``factor`` (below 1) of the next one."""

    factor: float
    sizes: Sequence[Size]


def plan_scales(size: Size, factor: float = 0.75, min_size: int = 25, max_size: int = 250) -> Scales:
    """Return the pyramid of a picture, as published.

    Its longer side is brought to ``max_size`` at most, its shorter one begins with ``min_size``, and the factor is
    changed so that both are met. Raises ``ParamsError`` where the picture or ``min_size`` is too small.
    """
    if min_size < RECEPTIVE_FIELD:
        raise ParamsError(
            f"min_size {min_size} is less than the receptive field of {RECEPTIVE_FIELD} px: set it to "
            f"{RECEPTIVE_FIELD} or more"
        )
    shrunk = min(max_size / max(size), 1.0)
    height, width = (math.ceil(side * shrunk - ROUNDING) for side in size)
    if min(height, width) <= min_size:
        raise ParamsError(
            f"a picture of {size[1]}x{size[0]} with min_size {min_size} and max_size {max_size} has no pyramid: "
            "its shorter side must be larger than min_size"
        )
    steps = 1 + math.ceil(math.log(min_size / min(size), factor)) - math.ceil(math.log(shrunk, factor) - ROUNDING)
    exact = (min_size / min(height, width)) ** (1 / steps)
    shares = [exact ** (steps - i) for i in range(steps + 1)]
    return Scales(exact, [(_length(height, share), _length(width, share)) for share in shares])


def resize(images: Tensor, factor: float, size: Size) -> Tensor:
    """Resize images ``[..., H, W]`` by ``factor`` (cubic; antialiased where it shrinks) to ``[..., *size]``.

    The first pixels lie where the factor puts them. What ``size`` asks for past the border is mirrored.
    """
    down, across = (_matrix(old, new, factor) for old, new in zip(images.shape[-2:], size, strict=True))
    return down.to(images) @ images @ across.to(images).T


def _length(side: int, share: float) -> int:
    return math.ceil(side * share - ROUNDING)


@cache
def _matrix(before: int, after: int, factor: float) -> Tensor:
    """Return the weights ``[after, before]`` of old pixels in new ones."""
    stretch = min(factor, 1.0)
    reach = math.ceil(2 / stretch) + 1
    centres = (torch.arange(after, dtype=torch.float64) + 0.5) / factor - 0.5
    seen = centres.floor()[:, None] + torch.arange(-reach, reach + 1)
    weights = _cubic(stretch * (centres[:, None] - seen))
    inside = (seen.long() % (2 * before)).clamp(max=2 * before - 1)
    inside = torch.where(inside < before, inside, 2 * before - 1 - inside)
    matrix = torch.zeros(after, before, dtype=torch.float64).scatter_add_(1, inside, weights)
    return (matrix / matrix.sum(1, keepdim=True)).float()


def _cubic(x: Tensor) -> Tensor:
    """The cubic kernel of Keys 1981, with a slope of -1/2 at 1."""
    x = x.abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, 0.0))
