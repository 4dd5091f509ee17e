"""Which part of a toy portrait each pixel shows: the network that says whether a translation kept its label map."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gan_core.judges.networks import NETWORKS, Down, Normalise, Residual, resize

LABELS: tuple[str, ...] = (
    "background", "skin", "hair", "left_eye", "right_eye", "brows", "nose",
    "mouth", "teeth", "glasses", "neck", "clothes", "ears",
)  # fmt: skip
"""What each class of a label map shows, by id."""
CLASSES = len(LABELS)


@NETWORKS.register("segmenter")
class Segmenter(nn.Module):
    """Portraits ``[B, 3, H, W]`` -> logits ``[B, classes, 64, 64]`` of ``LABELS``, by a small U-Net."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"width": width}
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 2, 1), Residual(width))
        self.middle = Down(width, 2 * width)
        self.coarse = nn.Sequential(Down(2 * width, 3 * width), Residual(3 * width))
        self.from_coarse = nn.Conv2d(3 * width, 2 * width, 1)
        self.from_middle = nn.Conv2d(2 * width, width, 1)
        self.join_middle, self.join_fine = Residual(2 * width), Residual(width)
        self.up = nn.Sequential(Normalise(width), nn.Conv2d(width, 64, 3, padding=1), nn.PixelShuffle(2))
        self.head = nn.Sequential(nn.Conv2d(19, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, CLASSES, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        images = resize(images)
        fine = self.stem(images)
        middle = self.middle(fine)
        coarse = interpolate(self.from_coarse(self.coarse(middle)), scale_factor=2.0, mode="nearest")
        middle = self.join_middle(middle + coarse)
        fine = self.join_fine(fine + interpolate(self.from_middle(middle), scale_factor=2.0, mode="nearest"))
        logits: Tensor = self.head(torch.cat([images, self.up(fine)], 1))
        return logits.float()


def count_overlaps(found: Tensor, truth: Tensor) -> Tensor:
    """How many pixels have which pair of classes: ids ``[..., H, W]`` -> ``[found classes, true classes]`` float64."""
    pairs = found.long().flatten() * CLASSES + truth.long().flatten()
    return torch.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES).cpu().double()


def mean_iou(overlaps: Tensor) -> float:
    """Mean over the classes that occur of intersection over union, in [0, 1], from ``count_overlaps``."""
    both = overlaps.diagonal()
    either = overlaps.sum(0) + overlaps.sum(1) - both
    return float((both[either > 0] / either[either > 0]).mean())
