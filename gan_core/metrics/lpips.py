"""LPIPS as a metric: columns ``lpips/<trunk>/<picture>``."""

from typing import Any, ClassVar

import torch

from gan_core.checkpoints.files import Loaded
from gan_core.device import fetch
from gan_core.judges.perceptual import PerceptualLoss, load_perceptual, pair_distances
from gan_core.judges.pictures import Pictures
from gan_core.meaning import Meaning
from gan_core.metrics.base import ALIGNED, METRICS, Columns, RowMetric, Setting


@METRICS.register("lpips")
class PerceptualDistance(RowMetric):
    """LPIPS between the aligned image and each reconstruction."""

    name: ClassVar[str] = "lpips"
    meaning: ClassVar[Meaning] = Meaning(
        "LPIPS", "", "lower", 3, "Perceptual distance from the aligned image; 0 means that it looks the same."
    )

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        loaded = self.load(setting)
        self.distance, self._sha256 = loaded.model, loaded.sha256

    @staticmethod
    def load(setting: Setting) -> Loaded[PerceptualLoss]:
        """Read the network of the distance; raises ``CheckpointError``."""
        return load_perceptual(setting.models.perceptual)

    @property
    def columns(self) -> list[str]:
        trunk = self.distance.name.removeprefix("lpips_")
        return [f"{self.name}/{trunk}/{picture}" for picture in self.setting.inversions]

    def identity(self) -> dict[str, Any]:
        return {"perceptual_sha256": self._sha256}

    @torch.no_grad()
    def score(self, pictures: Pictures) -> Columns:
        inversions = (pictures[p] for p in self.setting.inversions)
        scores = (fetch(pair_distances(self.distance, drawn, pictures[ALIGNED])) for drawn in inversions)
        return dict(zip(self.columns, scores, strict=True))
