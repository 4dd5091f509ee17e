"""Networks that predict from two images along which path the second was moved, and how far."""

from abc import ABC, abstractmethod
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.paths.resnet import ResNet18
from gan_core.registry import Registry


class Reconstructor(nn.Module, ABC):
    """Predicts the logits of the path ``[B, count]`` and the amount ``[B]`` from pairs of images ``[B, C, H, W]``.

    Images are resized to ``size`` pixels (nearest) if it is given. Only the first ``image_channels`` are looked at: one
    is enough for a generator that draws grey.
    """

    def __init__(self, image_channels: int, size: int | None) -> None:
        super().__init__()
        self.image_channels, self.size = image_channels, size

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        pair = torch.cat([image[:, : self.image_channels] for image in (before, after)], 1)
        features = self.features(pair if self.size is None else F.interpolate(pair, (self.size, self.size)))
        logits, amount = self.heads(features)
        return logits, amount.squeeze(1)

    @abstractmethod
    def features(self, pair: Tensor) -> Tensor:
        """Return features ``[B, F]`` of stacked images ``[B, 2 C, H, W]``."""

    @abstractmethod
    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``[B, count]`` and amounts ``[B, 1]`` for features ``[B, F]``."""


class BuildReconstructor(Protocol):
    """The constructor of a reconstructor."""

    def __call__(self, count: int, image_channels: int = 3, size: int | None = None) -> Reconstructor: ...


RECONSTRUCTORS: Registry[BuildReconstructor] = Registry("reconstructor", "gan_core.paths")


@RECONSTRUCTORS.register("lenet")
class LeNet(Reconstructor):
    """Three 5x5 convolutions and their mean, for at least 32 px; state-dict names of GANLatentDiscovery."""

    def __init__(self, count: int, image_channels: int = 3, size: int | None = None) -> None:
        super().__init__(image_channels, size)
        layers: list[nn.Module] = []
        for before, after in ((2 * image_channels, 6), (6, 16), (16, 120)):
            layers += [nn.Conv2d(before, after, 5), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.convnet = nn.Sequential(*layers[:-1])
        self.fc_logits, self.fc_shift = _head(count), _head(1)

    def features(self, pair: Tensor) -> Tensor:
        return self.convnet(pair).mean((2, 3))

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
        return self.features_extractor(pair)

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.type_estimator(features), self.shift_estimator(features)


def _head(count: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(120, 84), nn.BatchNorm1d(84), nn.ReLU(), nn.Linear(84, count))
