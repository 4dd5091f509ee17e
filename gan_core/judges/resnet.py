"""Residual networks with torchvision's names (He et al. 2016; the stride sits in the 3 x 3 convolution), and MoCo."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.encoders.resnet import BasicBlock, shortcut
from gan_core.judges.networks import NETWORKS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INPUT_SIZE = 224


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions and a shortcut; four times as wide outside as inside."""

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        y = self.bn3(self.conv3(y))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    """Images ``[B, 3, H, W]`` -> pooled features ``[B, dim]``, without a head."""

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], counts: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for group, count in enumerate(counts):
            inner = width << group
            outputs = inner * block.expansion
            layers = [block(inputs, inner, 1 if group == 0 else 2)]
            layers += [block(outputs, inner, 1) for _ in range(count - 1)]
            self.add_module(f"layer{group + 1}", nn.Sequential(*layers))
            inputs = outputs
        self.dim = inputs
        self.groups = len(counts)

    def pooled(self, images: Tensor) -> Tensor:
        """Images as the network wants them -> features ``[B, dim]``."""
        x = F.max_pool2d(self.bn1(self.conv1(images)).relu(), 3, 2, 1)
        for group in range(self.groups):
            x = self.get_submodule(f"layer{group + 1}")(x)
        return x.mean((2, 3))


def imagenet_input(images: Tensor) -> Tensor:
    """Images in [-1, 1] of any size -> 224 x 224, normalised by ImageNet's mean and deviation of [0, 1] values."""
    small = F.interpolate(images, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", antialias=True, align_corners=False)
    mean, std = (torch.tensor(v, device=images.device).reshape(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (small / 2 + 0.5 - mean) / std


@NETWORKS.register("moco-resnet50")
class MocoResNet50(ResNet):
    """MoCo v2's query encoder without its head (Chen et al. 2020): what pSp and e4e compare where there are no faces.

    As there, images are brought to 224 px by nearest neighbour and keep their values in [-1, 1].
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__(Bottleneck, (3, 4, 6, 3), width)
        self.arguments: dict[str, Any] = {} if width == 64 else {"width": width}

    def forward(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] -> unit vectors ``[B, 2048]``."""
        return F.normalize(self.pooled(F.interpolate(images, (INPUT_SIZE, INPUT_SIZE))).float(), dim=1)
