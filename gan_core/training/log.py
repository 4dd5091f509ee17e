"""What a training run leaves behind while it runs: a line of numbers and a picture grid per report."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from gan_core.storage.images import to_uint8

Report = Callable[[int, dict[str, float], Tensor], None]
"""Called with (images seen, metrics, pictures ``[N, 3, H, W]`` in [-1, 1])."""

Progress = Callable[[int], None]
"""Called with the images seen so far, often."""

logger = logging.getLogger(__name__)


def tile(images: Tensor, columns: int = 8) -> Image.Image:
    """Lay images ``[N, 3, H, W]`` in [-1, 1] out in rows of ``columns``; the last row is filled with black."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    pixels = np.zeros((rows * columns, height, width, 3), np.uint8)
    pixels[:count] = to_uint8(images)
    grid = pixels.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return Image.fromarray(grid.reshape(rows * height, columns * width, 3))


class TrainingLog:
    """A ``Report`` that appends to ``<folder>/<name>.jsonl`` and keeps the newest grid as ``<folder>/<name>.png``."""

    def __init__(self, name: str, folder: Path = Path("data/training")) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lines = folder / f"{name}.jsonl"
        self.picture = folder / f"{name}.png"
        self._last = (time.monotonic(), 0)

    def __call__(self, seen: int, metrics: dict[str, float], pictures: Tensor) -> None:
        now = time.monotonic()
        speed = (seen - self._last[1]) / (now - self._last[0]) if self._last[1] else 0.0
        self._last = (now, seen)
        values = {name: round(value, 5) for name, value in metrics.items()}
        logger.info("%d images, %.0f images/s, %s", seen, speed, values)
        with self.lines.open("a") as file:
            file.write(json.dumps({"images": seen, "images_per_s": round(speed, 1)} | values) + "\n")
        tile(pictures).save(self.picture)
