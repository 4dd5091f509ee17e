"""How the segmenter learns: the renderer's label maps, from mildly damaged and mirrored portraits."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gan_core.judges.segmenter import CLASSES, Segmenter, count_overlaps, mean_iou
from gan_core.toy.training.augment import quantise_blocks, smooth
from gan_core.toy.training.learner import Batch, PortraitLearner, Scores, embed
from gan_core.translation.inputs import mirror_labels

RARE = 0.5
"""Classes weigh by their share of all pixels to the power of minus this: eyes and teeth are few pixels."""


class SegmenterLearner(PortraitLearner):
    """Cross-entropy, rare classes weighing more; half of the portraits are mirrored, some blurred or recompressed."""

    name = "segmenter"
    network: Segmenter

    def __init__(self, *setting: Any) -> None:
        super().__init__(*setting)
        self.network = Segmenter(self.params.width)
        sample = torch.from_numpy(self.train_set.segmentation[:: max(1, len(self.train_set) // 500)].astype(np.int64))
        share = torch.bincount(sample.flatten(), minlength=CLASSES).clamp(min=1) / sample.numel()
        self.register_buffer("weight", share.pow(-RARE) / share.pow(1 - RARE).sum())

    def draw(self, rng: torch.Generator) -> Batch:
        images, rows = self._pick(self.params.batch_size, rng)
        labels = torch.from_numpy(np.array(self.train_set.segmentation[rows]))
        mirrored = torch.rand(len(images), generator=rng) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        labels = torch.where(mirrored[:, None, None], mirror_labels(labels), labels)
        return {"images": damage(images, rng), "labels": labels.long()}

    def loss(self, batch: Batch) -> Tensor:
        return cross_entropy(self.network(batch["images"]), batch["labels"], self.get_buffer("weight"))

    def score(self) -> Scores:
        found = embed(lambda images: self.network(images).argmax(1), self.held_out.image)
        truth = torch.from_numpy(np.array(self.held_out.segmentation))
        return {
            "mean_iou": mean_iou(count_overlaps(found, truth)),
            "accuracy": (found == truth).float().mean().item(),
        }


def damage(images: Tensor, rng: torch.Generator) -> Tensor:
    """Blur a third of the images, recompress a third, and add a little noise; nothing moves, so labels stay."""
    blur = torch.rand(len(images), 1, 1, 1, generator=rng) * (torch.rand(len(images), 1, 1, 1, generator=rng) < 0.33)
    images = images + blur * (smooth(images) - images)
    rows = torch.rand(len(images), generator=rng) < 0.33
    if rows.any():
        step = 0.1 * torch.rand(int(rows.sum()), 1, 1, 1, generator=rng)
        images[rows] = quantise_blocks(images[rows], step.clamp(min=1e-3))
    return (images + 0.03 * torch.randn(images.shape, generator=rng)).clamp(-1, 1)
