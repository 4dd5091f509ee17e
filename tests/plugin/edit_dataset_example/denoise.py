"""A stage: a median filter over the aligned image; a row is rejected where there is too much noise."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from PIL import Image, ImageFilter

from gan_core.params import Params
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import Stage
from gan_core.sections import Positive, Section
from gan_core.storage.images import decode_image, encode_png, image_value
from gan_core.storage.shards import IMAGE


class DenoiseParams(Section):
    """``extensions.denoise``: the side of the filter in pixels, and the most noise that is accepted.

    Noise is the mean change of a pixel by the filter, in levels of 255.
    """

    size: Literal[3, 5, 7] = 3
    max_noise: Positive = 20.0


class DenoiseStage(Stage):
    """Adds ``image``, the filtered image (PNG), and ``noise``; a row is rejected as ``too_noisy``."""

    name: ClassVar[str] = "denoise"
    inputs = ("align",)
    fields = (pa.field("image", IMAGE), pa.field("noise", pa.float32()))

    def __init__(self, settings: DenoiseParams, max_pixels: int, batch_size: int) -> None:
        self.settings, self.max_pixels, self.batch_size = settings, max_pixels, batch_size

    @classmethod
    def build(cls, params: Params, source: str) -> "DenoiseStage":
        settings = params.extension("denoise", DenoiseParams)
        return cls(settings, params.align.max_pixels, params.run.batch_size)

    def identity(self) -> dict[str, Any]:
        return {"params": self.settings.model_dump()}

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        return [self._denoise(row) for row in rows]

    def _denoise(self, row: Row) -> Row | Rejected:
        image = decode_image(row["image"]["bytes"], self.max_pixels)
        cleaned = image.filter(ImageFilter.MedianFilter(self.settings.size))
        noise = difference(image, cleaned)
        if noise > self.settings.max_noise:
            return Rejected("too_noisy", f"the filter changes it by {noise:.1f}, more than {self.settings.max_noise:g}")
        return {"image": image_value(encode_png(np.asarray(cleaned)), f"{row['key']}.png"), "noise": noise}


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean absolute difference of two RGB images of one size, in levels of 255."""
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())
