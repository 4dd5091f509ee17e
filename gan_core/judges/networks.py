"""The small networks that measure toy portraits: who it is, what it looks like, where its landmarks are.

All take images ``[B, 3, H, W]`` in [-1, 1] and work at 64 x 64; group normalisation keeps rows apart from their batch.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu, softmax

from gan_core.checkpoints.files import Loaded
from gan_core.loading import load_model
from gan_core.registry import Registry

SIZE = 64
NETWORKS: Registry[type[nn.Module]] = Registry("network", "gan_core.judges", nn.Module)


def load_network(path: str | Path, name: str | None = None) -> Loaded[nn.Module]:
    """Build the measuring network of a checkpoint, frozen, in eval mode.

    Raises ``CheckpointError`` if it is another one than ``name`` (such as ``"identity"``); with ``None`` any is taken.
    """
    return load_model(path, "network", NETWORKS, name)


def resize(images: Tensor, size: int = SIZE) -> Tensor:
    """Bring images ``[B, 3, H, W]`` to ``size`` x ``size`` (bilinear with antialias); a no-op at that size."""
    if images.shape[-2:] == (size, size):
        return images
    return interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)


class Normalise(nn.Sequential):
    """Group normalisation, then ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.GroupNorm(8, channels), nn.ReLU())


class Residual(nn.Module):
    """``x + conv(relu(norm(x)))`` at one resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.normalise = Normalise(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.normalise(x))


class Down(nn.Sequential):
    """Halve the resolution, then one residual block."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(Normalise(channels), nn.Conv2d(channels, out, 3, 2, 1), Residual(out))


class Backbone(nn.Sequential):
    """Images ``[B, 3, 64, 64]`` -> features ``[B, 24 * width]``; ``width`` is a multiple of 8."""

    def __init__(self, width: int) -> None:
        stem = nn.Conv2d(3, width, 4, 2, 1), Residual(width)
        stages = Down(width, 2 * width), Down(2 * width, 3 * width), Down(3 * width, 3 * width)
        squeeze = Normalise(3 * width), nn.Conv2d(3 * width, 3 * width // 2, 1), nn.ReLU(), nn.Flatten()
        super().__init__(*stem, *stages, *squeeze)


@NETWORKS.register("identity")
class IdentityEmbedder(nn.Module):
    """Portraits -> unit vectors ``[B, dim]`` whose cosine tells how much two portraits are the same person."""

    def __init__(self, width: int = 32, dim: int = 18) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"width": width, "dim": dim}
        self.backbone = Backbone(width)
        self.embed = nn.Linear(24 * width, dim)

    def estimate(self, images: Tensor) -> Tensor:
        """The vectors ``[B, dim]`` before they are brought to unit length."""
        return self.embed(self.backbone(resize(images)))

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.normalize(self.estimate(images).float(), dim=1)


@NETWORKS.register("attributes")
class AttributeRegressor(nn.Module):
    """Portraits -> one value per name, ``[B, len(names)]``; -1 and 1 are the ends of the attribute's range."""

    def __init__(self, names: list[str], width: int = 24, features: int = 64) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"names": list(names), "width": width, "features": features}
        self.names = list(names)
        self.backbone = Backbone(width)
        self.hidden = nn.Linear(24 * width, features)
        self.head = nn.Linear(features, len(names))

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer ``[B, features]``: what ``fid/toy-attr`` compares."""
        return self.hidden(self.backbone(resize(images)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(relu(self.features(images)))


@NETWORKS.register("perceptual")
class PerceptualTrunk(nn.Module):
    """Images -> one feature map per slice, from full to 1/16 resolution, each after a ReLU.

    Like VGG with two convolutions a slice, but one in the first, where they cost most.
    """

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 64, 64)) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"channels": list(channels)}
        self.channels = tuple(channels)
        self.slices = nn.ModuleList(
            self._slice(before, after, pool=i > 0)
            for i, (before, after) in enumerate(zip((3, *channels[:-1]), channels, strict=True))
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")

    @staticmethod
    def _slice(before: int, after: int, pool: bool) -> nn.Sequential:
        layers = [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        if pool:
            layers = [nn.AvgPool2d(2), *layers, nn.Conv2d(after, after, 3, padding=1), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for part in self.slices:
            images = part(images)
            maps.append(images)
        return maps


@NETWORKS.register("landmarks")
class LandmarkNet(nn.Module):
    """Letterboxed frames -> presence logit ``[B]`` and five points ``[B, 5, 2]`` (x, y as shares of the frame).

    Points are the soft-argmax of one heat map each (Sun et al. 2018, integral regression).
    """

    def __init__(self, width: int = 16, points: int = 5) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"width": width, "points": points}
        self.fine = nn.Sequential(nn.Conv2d(3, width, 4, 2, 1), Residual(width))
        self.middle = Down(width, 2 * width)
        self.coarse = nn.Sequential(Down(2 * width, 4 * width), Residual(4 * width), Residual(4 * width))
        self.from_coarse = nn.Conv2d(4 * width, 2 * width, 1)
        self.from_middle = nn.Conv2d(2 * width, width, 1)
        self.join_middle, self.join_fine = Residual(2 * width), Residual(width)
        self.heat = nn.Sequential(Normalise(width), nn.Conv2d(width, points, 3, padding=1))
        self.presence = nn.Linear(4 * width, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        presence, heat = self.heat_maps(frames)
        return presence, soft_argmax(heat)

    def heat_maps(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Presence logit ``[B]`` and the logits of where each point is, ``[B, 5, 32, 32]``."""
        fine = self.fine(resize(frames))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.join_middle(middle + interpolate(self.from_coarse(coarse), scale_factor=2.0, mode="nearest"))
        fine = self.join_fine(fine + interpolate(self.from_middle(middle), scale_factor=2.0, mode="nearest"))
        return self.presence(relu(coarse).amax((2, 3))).squeeze(1).float(), self.heat(fine).float()


def soft_argmax(heat: Tensor) -> Tensor:
    """Expected position ``[B, N, 2]`` in [0, 1] under the softmax of each map ``[B, N, S, S]``."""
    size = heat.shape[-1]
    weights = softmax(heat.flatten(2), dim=2).unflatten(2, (size, size))
    centres = (torch.arange(size, device=heat.device, dtype=heat.dtype) + 0.5) / size
    return torch.stack([weights.sum(2) @ centres, weights.sum(3) @ centres], dim=2)
