"""LPIPS as a metric: columns ``lpips/<trunk>/<picture>``."""

from typing import Any, ClassVar

import torch

from gan_core.batching import in_chunks
from gan_core.device import fetch
from gan_core.judges.perceptual import load_perceptual
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
        loaded = load_perceptual(setting.models.perceptual)
        self.distance, self._sha256 = loaded.model, loaded.sha256

    @property
    def columns(self) -> list[str]:
        trunk = self.distance.name.removeprefix("lpips_")
        return [f"{self.name}/{trunk}/{picture}" for picture in self.setting.inversions]

    def identity(self) -> dict[str, Any]:
        return {"perceptual_sha256": self._sha256}

    @torch.no_grad()
    def score(self, pictures: Pictures) -> Columns:
        pairs = (torch.stack([pictures[p], pictures[ALIGNED]], 1) for p in self.setting.inversions)
        scores = (fetch(in_chunks(lambda pair: self.distance(*pair.unbind(1)), pair)) for pair in pairs)
        return dict(zip(self.columns, scores, strict=True))
