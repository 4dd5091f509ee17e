"""ResNet-34 without its pooling (He et al. 2016), on which ReStyle and HyperStyle build for what is no face."""

from typing import ClassVar

from torch import Tensor, nn

from gan_core.encoders.backbone import ShortcutConv, Units

RESNET_34: Units = (3, 4, 6, 3)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    expansion: ClassVar[int] = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """The convolution beside a block, where it changes the size or the width."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(ShortcutConv(inputs, outputs, stride), nn.BatchNorm2d(outputs))


def resnet_stem(channels: int, width: int) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.PReLU]:
    """Build the first layers: images ``[B, channels, H, W]`` to maps ``[B, width, H / 2, W / 2]``."""
    return nn.Conv2d(channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)


def resnet_body(units: Units, width: int) -> nn.Sequential:
    """Build four groups of basic blocks, of which all but the first halve the size; widths as in ``backbone.body``."""
    layers: list[nn.Module] = []
    inputs = width
    for group, count in enumerate(units):
        outputs = width << group
        layers.append(BasicBlock(inputs, outputs, 2 if group else 1))
        layers += [BasicBlock(outputs, outputs, 1) for _ in range(count - 1)]
        inputs = outputs
    return nn.Sequential(*layers)
