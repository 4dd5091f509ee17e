"""Networks that tell from two pictures along which path the second was moved, and how far."""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.paths.resnet import ResNet18
from gan_core.registry import Registry


class Reconstructor(nn.Module, ABC):
    """Pairs of images ``[B, C, H, W]`` -> logits of the path ``[B, count]`` and the amount ``[B]``.

    Images are brought to ``size`` pixels (nearest) where one is given.
    """

    def __init__(self, size: int | None) -> None:
        super().__init__()
        self.size = size

    def forward(self, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        pair = torch.cat([before, after], 1)
        features = self.features(pair if self.size is None else F.interpolate(pair, (self.size, self.size)))
        logits, amount = self.heads(features)
        return logits, amount.squeeze(1)

    @abstractmethod
    def features(self, pair: Tensor) -> Tensor:
        """``[B, 2 C, H, W]`` -> ``[B, F]``."""

    @abstractmethod
    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, F]`` -> ``[B, count]`` and ``[B, 1]``."""


RECONSTRUCTORS: Registry[type[Any]] = Registry("reconstructor", "gan_core.paths")


@RECONSTRUCTORS.register("lenet")
class LeNet(Reconstructor):
    """Three convolutions of 5x5 and their mean; at least 32 px. State-dict names of GANLatentDiscovery."""

    def __init__(self, count: int, image_channels: int = 3, size: int | None = None) -> None:
        super().__init__(size)
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
    """ResNet-18 on six channels. State-dict names of GANLatentDiscovery."""

    def __init__(self, count: int, image_channels: int = 3, size: int | None = None) -> None:
        super().__init__(size)
        self.features_extractor = ResNet18(2 * image_channels)
        self.type_estimator, self.shift_estimator = nn.Linear(512, count), nn.Linear(512, 1)

    def features(self, pair: Tensor) -> Tensor:
        return self.features_extractor(pair)

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.type_estimator(features), self.shift_estimator(features)


WARPED_NAMES = {
    "lenet": {"feature_extractor": "convnet", "path_indices": "fc_logits", "shift_magnitudes": "fc_shift"},
    "resnet": {"path_indices": "type_estimator", "shift_magnitudes": "shift_estimator"},
}


def from_warped_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a WarpedGANSpace (or DeCurvEd) reconstructor to the names above."""
    kind = "resnet" if any(key.startswith("features_extractor.") for key in state) else "lenet"
    parts = {key: key.partition(".") for key in state}
    return {f"{WARPED_NAMES[kind].get(first, first)}.{rest}": state[key] for key, (first, _, rest) in parts.items()}


def _head(count: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(120, 84), nn.BatchNorm1d(84), nn.ReLU(), nn.Linear(84, count))
