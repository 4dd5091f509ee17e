"""A metric: how much fine detail an image has, compared with the aligned image of its row."""

import torch.nn.functional as F
from torch import Tensor

from gan_core.judges.pictures import Pictures
from gan_core.meaning import Meaning
from gan_core.metrics.base import ALIGNED, Columns, RowMetric


def detail(images: Tensor) -> Tensor:
    """Mean absolute difference ``[B]`` of each pixel of images ``[B, 3, H, W]`` from the mean of its 3×3 square."""
    return (images - F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)).abs().flatten(1).mean(1)


class Sharpness(RowMetric):
    """Detail of every reconstruction and edit, as a share of that of the aligned image."""

    name = "sharpness"
    meaning = Meaning(
        "Sharpness", better="higher", digits=2, sentence="Fine detail; 1 is as sharp as the aligned image."
    )

    @property
    def columns(self) -> list[str]:
        return [f"{self.name}/{picture}" for picture in self.setting.pictures]

    def score(self, pictures: Pictures) -> Columns:
        aligned = detail(pictures[ALIGNED]).clamp(min=1e-6)
        return {f"{self.name}/{p}": (detail(pictures[p]) / aligned).numpy() for p in self.setting.pictures}
