"""What a training run leaves behind while it runs: a line of numbers and a picture grid per report."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

Report = Callable[[int, dict[str, float], Tensor], None]
"""Called with (images seen, metrics, pictures ``[N, 3, H, W]`` in [-1, 1])."""

logger = logging.getLogger(__name__)


def tile(images: Tensor, columns: int = 8) -> Image.Image:
    """Lay images ``[N, 3, H, W]`` in [-1, 1] out in rows of ``columns``; the last row is filled with black."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    pixels = torch.zeros(rows * columns, height, width, 3, dtype=torch.uint8)
    pixels[:count] = (images * 127.5 + 128).clamp(0, 255).byte().permute(0, 2, 3, 1)
    grid = pixels.view(rows, columns, height, width, 3).transpose(1, 2).reshape(rows * height, columns * width, 3)
    return Image.fromarray(grid.numpy())


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
