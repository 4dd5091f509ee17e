"""The degradation of pSp's super-resolution: bicubic reduction, then resizing to the size of the encoder's input.

The filter is cubic with a = -0.5 (Keys 1981, eq. 4), stretched by the factor f and sampled at 4 f taps. A factor of 1
is not the identity: its taps are -1/16, 9/16, 9/16, -1/16, half a pixel off, as in the published code.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gan_core.device import fetch
from gan_core.errors import ParamsError
from gan_core.storage.images import to_tensor, to_uint8

FACTORS = (1, 2, 4, 8, 16, 32)


def cubic(x: Tensor, a: float = -0.5) -> Tensor:
    """Return the cubic convolution kernel at ``x [...]``; it is zero from 2 on."""
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x.square() + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def bicubic_taps(factor: int) -> Tensor:
    """Return the taps ``[4 factor]`` of the filter in one dimension, whose sum is 1."""
    taps = cubic((torch.arange(4 * factor, dtype=torch.float64) - 2 * factor + 0.5) / factor)
    return (taps / taps.sum()).float()


def reduce_bicubic(images: Tensor, factor: int) -> Tensor:
    """Reduce images ``[B, C, H, W]`` to ``[B, C, H / factor, W / factor]``, with reflected edges.

    Values can exceed the range of the input. Raises ``ParamsError`` for a factor that doesn't divide the size, or that
    is too large to reflect the edges.
    """
    check_factor(factor, images.shape[2], images.shape[3])
    channels, taps = images.shape[1], bicubic_taps(factor).to(images)
    before = 3 * factor // 2
    after = 3 * factor - before
    tall = F.pad(images, (0, 0, before, after), mode="reflect")
    tall = F.conv2d(tall, taps.reshape(1, 1, -1, 1).expand(channels, -1, -1, -1), stride=(factor, 1), groups=channels)
    wide = F.pad(tall, (before, after, 0, 0), mode="reflect")
    return F.conv2d(wide, taps.reshape(1, 1, 1, -1).expand(channels, -1, -1, -1), stride=(1, factor), groups=channels)


def check_factor(factor: int, height: int, width: int) -> None:
    """Raise ``ParamsError`` unless an image of ``height`` x ``width`` pixels can be reduced by ``factor``."""
    if factor < 1 or height % factor or width % factor:
        raise ParamsError(f"the factor {factor} doesn't divide {width}x{height} pixels: choose one that divides both")
    if 3 * factor - 3 * factor // 2 >= min(height, width):
        raise ParamsError(f"the factor {factor} leaves too little of {width}x{height} pixels: choose a smaller one")


def reduce_pixels(image: np.ndarray, factor: int) -> np.ndarray:
    """Reduce ``uint8 [H, W, 3]`` as the published code does: filter in [0, 1], clamp, truncate to 8 bits."""
    values = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    small = reduce_bicubic(values, factor).clamp(0, 1) * 255
    return fetch(small[0].permute(1, 2, 0).to(torch.uint8))


def degrade(images: Tensor, factor: int) -> Tensor:
    """Reduce images ``[B, 3, H, W]`` in [-1, 1] by ``factor`` and resize them to their original size.

    Like the published training pairs, they pass through 8 bits and Pillow's bilinear resampling.
    """
    height, width = images.shape[2:]
    small = [Image.fromarray(reduce_pixels(pixels, factor)) for pixels in to_uint8(images)]
    return to_tensor([image.resize((width, height), Image.Resampling.BILINEAR) for image in small])
