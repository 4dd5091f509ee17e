"""Landmarks that come beside a dataset, in one file: CelebA's list of five points, or FFHQ's JSON with 68."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gan_core.align.landmarks import LANDMARK_SOURCES, LandmarkSource
from gan_core.checkpoints.files import file_sha256
from gan_core.errors import DataError
from gan_core.geometry import Points
from gan_core.rows import Rejected, Row

Table = dict[str, Points]


@LANDMARK_SOURCES.register("table")
class TableLandmarks(LandmarkSource):
    """Looks a row's key up in the file that ``models.landmarks`` names, by its whole path or by the file's name."""

    def landmarks(self, image: Image.Image, row: Row) -> Points | Rejected:
        """Return the row's points; ``no_face`` where the file has none."""
        table = read_table(self.checkpoint)
        points = table.get(row["key"], table.get(row["key"].rsplit("/", 1)[-1]))
        return Rejected("no_face", f"{self.checkpoint} has no landmarks for it") if points is None else points

    def identity(self) -> dict[str, Any]:
        """The file's hash."""
        return {"landmarks_sha256": file_sha256(self.checkpoint)}


@cache
def read_table(path: str) -> Table:
    """Read CelebA's ``list_landmarks*.txt`` or ``.csv``, or FFHQ's ``ffhq-dataset-v2.json``; raises ``DataError``."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        table = _ffhq(json.loads(text)) if path.endswith(".json") else _celeba(text)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"no table of landmarks at {path} ({error}): name it in models.landmarks") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is neither CelebA's list of landmarks nor FFHQ's JSON ({error})") from None
    if not table:
        raise DataError(f"{path} lists no landmarks: name CelebA's list or FFHQ's JSON in models.landmarks")
    return table


def _celeba(text: str) -> Table:
    table: Table = {}
    for line in text.splitlines():
        name, *numbers = line.replace(",", " ").split() or [""]
        if "." in name and len(numbers) == 10:  # not the count, not the head of the columns
            table[name] = np.array(numbers, dtype=np.float64).reshape(5, 2)
    return table


def _ffhq(content: dict[str, Any]) -> Table:
    """Points of the photographs in the wild, and of the aligned images, each by the end of its path."""
    table: Table = {}
    for entry in content.values():
        for part, points in (
            ("in_the_wild", entry.get("in_the_wild", {}).get("face_landmarks")),
            ("image", entry.get("image", {}).get("face_landmarks")),
        ):
            if points is not None:
                path = entry[part]["file_path"]
                landmarks = np.array(points, dtype=np.float64).reshape(68, 2)
                table[path] = landmarks
                if part == "in_the_wild":
                    table[path.rsplit("/", 1)[-1]] = landmarks
    return table
