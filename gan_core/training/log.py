"""What follows a training, and what it leaves behind: a line of numbers and a grid of pictures a report, its scores."""

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from gan_core.storage.atomic import locked, write_bytes
from gan_core.storage.images import to_uint8

FOLDER = Path("data/training")
SCORES = Path("data/metrics")
logger = logging.getLogger(__name__)


class Report(Protocol):
    """What follows a training."""

    def __call__(self, seen: int, metrics: dict[str, float], pictures: Tensor) -> None:
        """Take in metrics after ``seen`` images, and pictures ``[N, 3, H, W]`` in [-1, 1]."""

    def progress(self, seen: int, images: int) -> None:
        """Take in after each step how many of all images were seen."""
        return


def tile(images: Tensor, columns: int = 8) -> Image.Image:
    """Lay images ``[N, 3, H, W]`` in [-1, 1] out in rows of ``columns``; the last row is filled with black."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    pixels = np.zeros((rows * columns, height, width, 3), np.uint8)
    pixels[:count] = to_uint8(images)
    grid = pixels.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return Image.fromarray(grid.reshape(rows * height, columns * width, 3))


class TrainingLog(Report):
    """A ``Report`` that appends to ``<folder>/<name>.jsonl`` and keeps the newest grid as ``<folder>/<name>.png``."""

    def __init__(self, name: str, folder: Path = FOLDER) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lines = folder / f"{name}.jsonl"
        self.picture = folder / f"{name}.png"
        self._last: tuple[float, int] | None = None

    def progress(self, seen: int, images: int) -> None:
        if self._last is None:
            self._last = (time.monotonic(), seen)

    def __call__(self, seen: int, metrics: dict[str, float], pictures: Tensor) -> None:
        now = time.monotonic()
        since, before = self._last or (now, seen)
        speed = (seen - before) / max(now - since, 1e-9)
        self._last = (now, seen)
        values = {name: round(value, 5) for name, value in metrics.items()}
        logger.info("%d images, %.0f images/s, %s", seen, speed, values)
        with self.lines.open("a") as file:
            file.write(json.dumps({"images": seen, "images_per_s": round(speed, 1)} | values) + "\n")
        tile(pictures).save(self.picture)


@contextmanager
def resumable(name: str) -> Iterator[Path]:
    """Give a training a folder to resume from, which goes when it ends.

    Raises ``DataError`` while another process trains there.
    """
    folder = FOLDER / name
    with locked(FOLDER / f".{name}.lock", folder):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        shutil.rmtree(folder)


def write_scores(name: str, scores: Mapping[str, Any]) -> None:
    """Write what a training of the project has scored to ``data/metrics``."""
    write_bytes(SCORES / f"{name}.json", (json.dumps(scores, indent=2) + "\n").encode())
