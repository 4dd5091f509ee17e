"""The two networks of a scale: five convolutions each, which see patches of 11 x 11 pixels (SinGAN, section 2.1).

Networks of several ``pictures`` are side by side in one, as groups of channels that know nothing of each other: images
are ``[B, pictures * 3, H, W]``. For one picture the names and shapes of tensors are those of ``netG.pth`` and
``netD.pth`` as published.
"""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

LAYERS = 5
PAD = LAYERS
"""No convolution is padded; a picture gets this many pixels of zeros on each side instead, once."""
RECEPTIVE_FIELD = 2 * LAYERS + 1
SLOPE = 0.2
DEVIATION = 0.02
"""Standard deviation of the first weights, and of the first gains of normalisations around 1."""


class ScaleGenerator(nn.Module):
    """Adds details to the image of the former scale: noise and image ``[B, pictures * 3, H, W]`` -> the same shape."""

    def __init__(self, width: int, pictures: int = 1) -> None:
        super().__init__()
        self.head, self.body = _block(3, width, pictures), _body(width, pictures)
        self.tail = nn.Sequential(_convolution(width, 3, pictures), nn.Tanh())
        self.apply(_begin)

    def forward(self, noise: Tensor, former: Tensor) -> Tensor:
        x = F.pad(noise + former, (PAD,) * 4)
        return self.tail(self.body(self.head(x))) + former


class ScaleDiscriminator(nn.Module):
    """Tells patches of a picture from others: images -> a value for each patch, ``[B, pictures, H - 10, W - 10]``."""

    def __init__(self, width: int, pictures: int = 1) -> None:
        super().__init__()
        self.head, self.body = _block(3, width, pictures), _body(width, pictures)
        self.tail = _convolution(width, 1, pictures)
        self.apply(_begin)

    def forward(self, images: Tensor) -> Tensor:
        return self.tail(self.body(self.head(images)))


def _convolution(before: int, after: int, pictures: int) -> nn.Conv2d:
    return nn.Conv2d(pictures * before, pictures * after, 3, groups=pictures)


def _block(before: int, after: int, pictures: int) -> nn.Sequential:
    norm = nn.BatchNorm2d(pictures * after)
    parts = {"conv": _convolution(before, after, pictures), "norm": norm, "activation": nn.LeakyReLU(SLOPE)}
    return nn.Sequential(OrderedDict(parts))


def _body(width: int, pictures: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict((f"block{i}", _block(width, width, pictures)) for i in range(1, LAYERS - 1)))


def _begin(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.normal_(layer.weight, 0.0, DEVIATION)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, DEVIATION)
