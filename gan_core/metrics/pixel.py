"""Mean squared error and PSNR of reconstructions against the aligned image."""

import numpy as np
import torch
from torch import Tensor

from gan_core.device import fetch, widest
from gan_core.judges.pictures import Pictures
from gan_core.meaning import Meaning
from gan_core.metrics.base import ALIGNED, METRICS, Columns, RowMetric

PSNR_CEILING = 100.0


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference ``[B]`` of images ``[B, C, H, W]`` in [-1, 1], between 0 and 4; float64 on the CPU.

    Raises ``ValueError`` for two batches of different shapes, and ``TypeError`` for integers.
    """
    if integers := [each.dtype for each in (x, y) if not each.is_floating_point()]:
        raise TypeError(f"images are {integers[0]}: give floating-point values in [-1, 1], as `to_tensor` makes them")
    if x.shape != y.shape:
        raise ValueError(f"images {list(x.shape)} are compared with {list(y.shape)}: give two batches of one shape")
    return (widest(x) - widest(y)).square().flatten(1).mean(1)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """``10 log10(4 / mse)`` dB ``[B]`` of images ``[B, C, H, W]`` in [-1, 1] (peak to peak 2), at most 100.

    Equal images give 100. Raises ``ValueError`` for two batches of different shapes, and ``TypeError`` for integers.
    """
    return (10 * torch.log10(4 / mse(x, y))).clamp(max=PSNR_CEILING)


class PixelMetric(RowMetric):
    """A difference between the aligned image and each reconstruction; columns ``<name>/<picture>``."""

    @property
    def columns(self) -> list[str]:
        return [f"{self.name}/{picture}" for picture in self.setting.inversions]

    def score(self, pictures: Pictures) -> Columns:
        return {f"{self.name}/{p}": self.difference(pictures[ALIGNED], pictures[p]) for p in self.setting.inversions}

    def difference(self, x: Tensor, y: Tensor) -> np.ndarray:
        """Scores ``[B]`` of two batches of images."""
        raise NotImplementedError


@METRICS.register("mse")
class MeanSquaredError(PixelMetric):
    """Mean squared error on [-1, 1]."""

    name = "mse"
    meaning = Meaning(
        "MSE",
        better="lower",
        digits=4,
        sentence="Mean squared difference from the aligned image, pixels in [−1, 1]; 0 means equal.",
        headline=False,
    )

    def difference(self, x: Tensor, y: Tensor) -> np.ndarray:
        return fetch(mse(x, y))


@METRICS.register("psnr")
class PeakSignalToNoise(PixelMetric):
    """PSNR in dB; the dataset's number is the mean over rows."""

    name = "psnr"
    meaning = Meaning(
        "PSNR", "dB", "higher", 1, "Peak signal-to-noise ratio: how close the pixels are to the aligned image."
    )

    def difference(self, x: Tensor, y: Tensor) -> np.ndarray:
        return fetch(psnr(x, y))
