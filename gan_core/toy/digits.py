"""Handwritten digits: the pictures, and what scores them without a trained network.

``python -m gan_core.toy.digits`` writes scikit-learn's to ``data/digits.npz``.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.device import place
from gan_core.errors import DataError
from gan_core.judges.scorers import Scorers

DIGITS = Path("data/digits.npz")
NAMES = ("ink", "slant", "width", "height")
RIDGE = 0.1


@dataclass(frozen=True)
class Digits:
    """``images [N, 1, size, size]`` in [-1, 1] with ``labels [N]`` from 0 to 9."""

    images: Tensor
    labels: Tensor


def load_digits(size: int, path: Path = DIGITS) -> Digits:
    """Read the digits, enlarged (bilinear) to ``size`` pixels; raises ``DataError`` if they aren't there."""
    if not path.exists():
        raise DataError(f"no digits at {path}: write them with `python -m gan_core.toy.digits`")
    with np.load(path) as stored:
        images, labels = torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"])
    small = images[:, None].float() / 8 - 1
    return Digits(F.interpolate(small, (size, size), mode="bilinear", align_corners=False), labels.long())


def shape_moments(images: Tensor) -> Tensor:
    """Amount of ink, slant, width and height ``[B, 4]`` of digits ``[B, C, H, W]``, by moments of the ink.

    Slant is the sideways shift per line, width and height are standard deviations, both as shares of the picture.
    """
    ink = (images.mean(1) + 1).clamp(0, 2) / 2
    total = ink.sum((1, 2)).clamp_min(1e-6)
    size = images.shape[-1]
    places = (torch.arange(size, device=images.device) + 0.5) / size
    x, y = (ink.sum(1) @ places) / total, (ink.sum(2) @ places) / total
    dx, dy = places[None] - x[:, None], places[None] - y[:, None]
    xx = (ink.sum(1) * dx.square()).sum(1) / total
    yy = (ink.sum(2) * dy.square()).sum(1) / total
    xy = (ink * dy[:, :, None] * dx[:, None, :]).sum((1, 2)) / total
    return torch.stack([ink.mean((1, 2)), -xy / yy.clamp_min(1e-6), xx.sqrt(), yy.sqrt()], 1)


def digit_scorers(digits: Digits) -> Scorers:
    """Judge by shape, in shares of the range from the 1st to the 99th percentile of ``digits``, and by digit.

    Identity is the square root of the class probabilities under Gaussians of one covariance (linear discriminant
    analysis of 8x8 pictures): the cosine of two is 1 for equal beliefs and 0 for beliefs that exclude each other.
    """
    moments = shape_moments(digits.images)
    low, high = (place(torch.quantile(moments, q, dim=0)) for q in (0.01, 0.99))
    weight, bias = map(place, _discriminant(_small(digits.images), digits.labels))

    def identity(images: Tensor) -> Tensor:
        return torch.softmax(_small(images) @ weight + bias, 1).sqrt()

    return Scorers(NAMES, lambda images: (shape_moments(images) - low) / (high - low), identity)


def _small(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(images.mean(1, keepdim=True), 8).flatten(1)


def _discriminant(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    means = torch.stack([x[labels == label].mean(0) for label in range(10)])
    away = x - means[labels]
    covariance = away.t() @ away / len(x) + RIDGE * torch.eye(x.shape[1])
    weight = torch.linalg.solve(covariance, means.t())
    return weight, -0.5 * (means * weight.t()).sum(1)


def write_digits(path: Path = DIGITS) -> None:
    """Write ``images [1797, 8, 8]`` uint8 from 0 to 16 and ``labels [1797]`` (UCI, Alpaydin and Kaynak 1998)."""
    from sklearn.datasets import load_digits as load_sklearn_digits

    digits = load_sklearn_digits()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, images=digits.images.astype(np.uint8), labels=digits.target.astype(np.uint8))


if __name__ == "__main__":
    write_digits()
