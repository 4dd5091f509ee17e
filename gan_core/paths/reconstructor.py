"""Networks that predict from two images along which path the second was moved, and how far."""

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.paths.resnet import ResNet18
from gan_core.registry import Registry


class Reconstructor(nn.Module, ABC):
    """Predicts the logits of the path ``[B, count]`` and the amount ``[B]`` from pairs of images ``[B, C, H, W]``.

    Images are resized to ``size`` pixels (nearest) if it is given. Only the first ``image_channels`` are looked at: one
    is enough for a generator that draws grey. If it ``folds``, it may do the same, up to rounding, with fewer products.
    It can't look at images of less than ``smallest`` pixels.
    """

    smallest: ClassVar[int] = 1

    def __init__(self, image_channels: int, size: int | None) -> None:
        super().__init__()
        self.image_channels, self.size = image_channels, size
        self.folds = False

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        pair = torch.cat([image[:, : self.image_channels] for image in (before, after)], 1)
        logits, amount = self.heads(self.features(pair))
        return logits, amount.squeeze(1)

    def resized(self, pair: Tensor) -> Tensor:
        """Return stacked images ``[B, 2 C, H, W]`` at the size that is looked at."""
        return pair if self.size is None else F.interpolate(pair, (self.size, self.size))

    @abstractmethod
    def features(self, pair: Tensor) -> Tensor:
        """Return features ``[B, F]`` of stacked images ``[B, 2 C, H, W]``, resized first."""

    @abstractmethod
    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, count]`` and amounts ``[B, 1]`` for features ``[B, F]``."""


class BuildReconstructor(Protocol):
    """The constructor of a reconstructor."""

    def __call__(self, count: int, image_channels: int = 3, size: int | None = None) -> Reconstructor: ...


RECONSTRUCTORS: Registry[BuildReconstructor] = Registry("reconstructor", "gan_core.paths")


FIRST = 4
"""Layers of LeNet's first block: convolution, norm, ReLU, pooling."""
DOUBLED = (
    ((1.0, 1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 1.0, 0.0), (0.0, 0.0, 0.0, 0.0, 1.0)),
    ((1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 1.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0, 1.0)),
)
"""Which of five taps ``[2, 3, 5]`` meet which of three pixels, at even and odd places of an image of twice the size."""


@RECONSTRUCTORS.register("lenet")
class LeNet(Reconstructor):
    """Three 5x5 convolutions and their mean, for at least 32 px; state-dict names of GANLatentDiscovery."""

    smallest = 32
    places: Tensor

    def __init__(self, count: int, image_channels: int = 3, size: int | None = None) -> None:
        super().__init__(image_channels, size)
        layers: list[nn.Module] = []
        for before, after in ((2 * image_channels, 6), (6, 16), (16, 120)):
            layers += [nn.Conv2d(before, after, 5), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.convnet = nn.Sequential(*layers[:-1])
        self.fc_logits, self.fc_shift = _head(count), _head(1)
        self.register_buffer("places", torch.tensor(DOUBLED), persistent=False)

    def features(self, pair: Tensor) -> Tensor:
        if self.folds and self.size == 2 * pair.shape[2] == 2 * pair.shape[3]:
            return self.convnet[FIRST:](self._first_of_doubled(pair)).mean((2, 3))
        return self.convnet(self.resized(pair)).mean((2, 3))

    def _first_of_doubled(self, pair: Tensor) -> Tensor:
        """The first convolution with what follows it, of images that would be enlarged to twice their size.

        A value there meets the same pixel by up to two of five taps in each direction, so it is a 3x3 convolution of
        the images as they are, one for each place in a block of 2x2 values; those are what the pooling takes.
        """
        conv, norm = self.convnet[0], self.convnet[1]
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        weight = torch.einsum("aik,bjl,ockl->abocij", self.places, self.places, conv.weight).flatten(0, 2)
        made = F.conv2d(pair.contiguous(), weight, conv.bias.repeat(4))
        made = norm(made.view(-1, conv.out_channels, *made.shape[2:]))
        return made.view(len(pair), 4, *made.shape[1:]).amax(1).relu()

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.fc_logits(features), self.fc_shift(features)


@RECONSTRUCTORS.register("resnet")
class ResNet(Reconstructor):
    """ResNet-18 on the stacked channels of both images; state-dict names of GANLatentDiscovery."""

    def __init__(self, count: int, image_channels: int = 3, size: int | None = None) -> None:
        super().__init__(image_channels, size)
        self.features_extractor = ResNet18(2 * image_channels)
        self.type_estimator, self.shift_estimator = nn.Linear(512, count), nn.Linear(512, 1)

    def features(self, pair: Tensor) -> Tensor:
        return self.features_extractor(self.resized(pair))

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.type_estimator(features), self.shift_estimator(features)


def _head(count: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(120, 84), nn.BatchNorm1d(84), nn.ReLU(), nn.Linear(84, count))
