"""IR-SE, ArcFace's residual backbone with squeeze and excitation (Deng et al. 2019), on which pSp and e4e build."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Units = tuple[int, int, int, int]
IR_SE_50: Units = (3, 4, 14, 3)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate that is computed from all channel means (Hu et al. 2018)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(channels // reduction, 1)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(means))))


class ShortcutConv(nn.Conv2d):
    """A 1x1 convolution with a stride, which picks its pixels itself where it learns and is narrow.

    oneDNN (in torch 2.13) writes past its memory in the gradient of such weights, in float32 with channels last, where
    they have fewer inputs than a vector register has numbers.
    """

    REGISTER: ClassVar[int] = 16
    """Numbers of a register of AVX-512; AVX2 has 8."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.in_channels >= self.REGISTER or not torch.is_grad_enabled():
            return super().forward(x)
        down, across = self.stride
        return F.conv2d(x[..., ::down, ::across], self.weight, self.bias)


class ResidualUnit(nn.Module):
    """BN, conv, PReLU, conv with ``stride``, BN and, if ``gated``, a gate; added to a shortcut without activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, gated: bool = True) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(ShortcutConv(inputs, outputs, stride), nn.BatchNorm2d(outputs))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            *([SqueezeExcite(outputs)] if gated else []),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


def stem(channels: int, width: int) -> nn.Sequential:
    """Build the input layer: images ``[B, channels, H, W]`` to maps ``[B, width, H, W]``."""
    return nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))


def body(units: Units, width: int, gated: bool = True) -> nn.Sequential:
    """Build four groups of units; each group first halves the size. The widths are ``width`` times 1, 2, 4 and 8."""
    layers: list[nn.Module] = []
    inputs = width
    for group, count in enumerate(units):
        outputs = width << group
        layers.append(ResidualUnit(inputs, outputs, 2, gated))
        layers += [ResidualUnit(outputs, outputs, 1, gated) for _ in range(count - 1)]
        inputs = outputs
    return nn.Sequential(*layers)


def group_ends(units: Units) -> list[int]:
    """Return the index of the last unit of each group."""
    return [sum(units[: group + 1]) - 1 for group in range(len(units))]
