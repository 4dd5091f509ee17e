"""The Inception network behind published FIDs, in its PyTorch port, and the two ways of resizing for it.

Weights: ``pt_inception-2015-12-05`` of pytorch-fid (TensorFlow's network of Heusel et al. 2017). It differs from
torchvision's Inception v3 in its pooling: averages don't count the padding, and the last block takes maxima.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from gan_core.batching import in_chunks
from gan_core.checkpoints.files import Loaded
from gan_core.device import place_array
from gan_core.judges.extractors import EXTRACTORS, Extractor
from gan_core.judges.networks import NETWORKS, load_network
from gan_core.params import ModelPaths
from gan_core.storage.images import to_uint8

SIZE = 299


def average(x: Tensor) -> Tensor:
    """3 x 3 mean of what lies inside the image, ``[B, C, H, W]`` to the same shape."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def maximum(x: Tensor) -> Tensor:
    """3 x 3 maximum of ``[B, C, H, W]``, at the same shape."""
    return F.max_pool2d(x, 3, 1, 1)


class Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


class Mixed(nn.Module):
    """Branches side by side, their maps concatenated; ``pool`` precedes the branch ``branch_pool``, if there is one."""

    paths: Sequence[Sequence[str]]

    def __init__(self, thin: int, pool: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.thin = thin
        self.pool = pool

    def conv(self, inputs: int, outputs: int, *shape: Any, **options: Any) -> Conv:
        """A convolution between these published widths, divided by ``thin``."""
        return Conv(inputs // self.thin, outputs // self.thin, *shape, **options)

    def along(self, names: Sequence[str], x: Tensor) -> Tensor:
        """Apply the named parts to ``x [B, C, H, W]`` in turn; a last ``a|b`` applies both and joins channels."""
        for name in names:
            x = torch.cat([self.get_submodule(part)(x) for part in name.split("|")], 1)
        return x

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.along(path, x) for path in self.paths]
        if self.pool is not None:
            maps.append(self.along(["branch_pool"], self.pool(x)))
        return torch.cat(maps, 1)


class Halving(Mixed):
    """Branches that halve the size, and beside their maps the maximum of what they are given."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([super().forward(x), F.max_pool2d(x, 3, 2)], 1)


class MixedA(Mixed):
    """1 x 1, 5 x 5, two 3 x 3, pool."""

    paths = (["branch1x1"], ["branch5x5_1", "branch5x5_2"], [f"branch3x3dbl_{i}" for i in (1, 2, 3)])

    def __init__(self, thin: int, inputs: int, pooled: int) -> None:
        super().__init__(thin, average)
        self.branch1x1 = self.conv(inputs, 64, 1)
        self.branch5x5_1 = self.conv(inputs, 48, 1)
        self.branch5x5_2 = self.conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = self.conv(inputs, 64, 1)
        self.branch3x3dbl_2 = self.conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = self.conv(96, 96, 3, padding=1)
        self.branch_pool = self.conv(inputs, pooled, 1)


class MixedB(Halving):
    """Halves the size: 3 x 3, two 3 x 3, and the maximum itself."""

    paths = (["branch3x3"], [f"branch3x3dbl_{i}" for i in (1, 2, 3)])

    def __init__(self, thin: int, inputs: int) -> None:
        super().__init__(thin)
        self.branch3x3 = self.conv(inputs, 384, 3, 2)
        self.branch3x3dbl_1 = self.conv(inputs, 64, 1)
        self.branch3x3dbl_2 = self.conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = self.conv(96, 96, 3, 2)


class MixedC(Mixed):
    """1 x 1, 7 x 7 in two strips, twice that, pool."""

    paths = (
        ["branch1x1"],
        [f"branch7x7_{i}" for i in (1, 2, 3)],
        [f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)],
    )

    def __init__(self, thin: int, inputs: int, inner: int) -> None:
        super().__init__(thin, average)
        across: dict[str, Any] = {"kernel": (1, 7), "padding": (0, 3)}
        down: dict[str, Any] = {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = self.conv(inputs, 192, 1)
        self.branch7x7_1 = self.conv(inputs, inner, 1)
        self.branch7x7_2 = self.conv(inner, inner, **across)
        self.branch7x7_3 = self.conv(inner, 192, **down)
        self.branch7x7dbl_1 = self.conv(inputs, inner, 1)
        self.branch7x7dbl_2 = self.conv(inner, inner, **down)
        self.branch7x7dbl_3 = self.conv(inner, inner, **across)
        self.branch7x7dbl_4 = self.conv(inner, inner, **down)
        self.branch7x7dbl_5 = self.conv(inner, 192, **across)
        self.branch_pool = self.conv(inputs, 192, 1)


class MixedD(Halving):
    """Halves the size: 3 x 3, 7 x 7 in two strips then 3 x 3, and the maximum itself."""

    paths = (["branch3x3_1", "branch3x3_2"], [f"branch7x7x3_{i}" for i in (1, 2, 3, 4)])

    def __init__(self, thin: int, inputs: int) -> None:
        super().__init__(thin)
        self.branch3x3_1 = self.conv(inputs, 192, 1)
        self.branch3x3_2 = self.conv(192, 320, 3, 2)
        self.branch7x7x3_1 = self.conv(inputs, 192, 1)
        self.branch7x7x3_2 = self.conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = self.conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = self.conv(192, 192, 3, 2)


class MixedE(Mixed):
    """1 x 1, 3 x 3 as two strips side by side, twice that, pool."""

    paths = (
        ["branch1x1"],
        ["branch3x3_1", "branch3x3_2a|branch3x3_2b"],
        ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a|branch3x3dbl_3b"],
    )

    def __init__(self, thin: int, inputs: int, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__(thin, pool)
        self.branch1x1 = self.conv(inputs, 320, 1)
        self.branch3x3_1 = self.conv(inputs, 384, 1)
        self.branch3x3dbl_1 = self.conv(inputs, 448, 1)
        self.branch3x3dbl_2 = self.conv(448, 384, 3, padding=1)
        for stem in ("branch3x3_2", "branch3x3dbl_3"):
            self.add_module(f"{stem}a", self.conv(384, 384, (1, 3), padding=(0, 1)))
            self.add_module(f"{stem}b", self.conv(384, 384, (3, 1), padding=(1, 0)))
        self.branch_pool = self.conv(inputs, 192, 1)


@NETWORKS.register("inception-fid")
class InceptionFid(nn.Module):
    """Images in [-1, 1] -> the pooled features ``[B, 2048]`` of FID; other sizes than 299 px as ``legacy_input``.

    ``thin`` divides all widths (by at most 32) and ``size`` (at least 75) replaces 299, for tests.
    """

    def __init__(self, thin: int = 1, size: int = SIZE) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {} if thin == 1 and size == SIZE else {"thin": thin, "size": size}
        self.size = size
        self.dim = 2048 // thin
        self.Conv2d_1a_3x3 = Conv(3, 32 // thin, 3, 2)
        self.Conv2d_2a_3x3 = Conv(32 // thin, 32 // thin, 3)
        self.Conv2d_2b_3x3 = Conv(32 // thin, 64 // thin, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64 // thin, 80 // thin, 1)
        self.Conv2d_4a_3x3 = Conv(80 // thin, 192 // thin, 3)
        for name, inputs, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
            self.add_module(f"Mixed_{name}", MixedA(thin, inputs, pooled))
        self.Mixed_6a = MixedB(thin, 288)
        for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            self.add_module(f"Mixed_{name}", MixedC(thin, 768, inner))
        self.Mixed_7a = MixedD(thin, 768)
        self.Mixed_7b = MixedE(thin, 1280, average)
        self.Mixed_7c = MixedE(thin, 2048, maximum)

    def forward(self, images: Tensor) -> Tensor:
        x = legacy_input(images, self.size)
        for name, part in self.named_children():
            x = part(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = F.max_pool2d(x, 3, 2)
        return x.mean((2, 3)).float()


def legacy_input(images: Tensor, size: int = SIZE) -> Tensor:
    """Images in [-1, 1] as pytorch-fid gives them to the network: bilinear to 299 px, without antialias."""
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)


def clean_input(images: Tensor, size: int = SIZE) -> Tensor:
    """Images in [-1, 1] as clean-fid gives them to the network: Pillow's bicubic with antialias, channel by channel."""
    resized = np.stack([clean_resize(pixels, size) for pixels in to_uint8(images)])
    return (place_array(resized).permute(0, 3, 1, 2) - 128) / 128


def clean_resize(pixels: np.ndarray, size: int = SIZE) -> np.ndarray:
    """``uint8 [H, W, 3]`` -> float32 ``[size, size, 3]`` in [0, 255], not rounded (Parmar et al. 2022)."""
    channels = [Image.fromarray(pixels[..., c].astype(np.float32)) for c in range(3)]
    resized = [np.asarray(c.resize((size, size), Image.Resampling.BICUBIC), np.float32) for c in channels]
    return np.stack(resized, axis=2).clip(0, 255)


@EXTRACTORS.register("inception")
class InceptionFeatures(Extractor):
    """Features of ``models.inception``, images resized as pytorch-fid does: numbers like most published ones."""

    name = "inception"

    def __init__(self, models: ModelPaths) -> None:
        loaded: Loaded[Any] = load_network(models.inception, "inception-fid")
        self.network: InceptionFid = loaded.model
        self.dim = self.network.dim
        self._identity = {"inception_sha256": loaded.sha256}

    def identity(self) -> dict[str, Any]:
        return self._identity

    def features(self, images: Tensor) -> Tensor:
        return in_chunks(self.network, images)


@EXTRACTORS.register("inception-clean")
class CleanInceptionFeatures(InceptionFeatures):
    """The same features, images resized as clean-fid does."""

    name = "inception-clean"

    def features(self, images: Tensor) -> Tensor:
        return in_chunks(lambda part: self.network(clean_input(part, self.network.size)), images)
