"""Landmarks in a file beside the dataset: CelebA's list of five points, or FFHQ's JSON with 68."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image

from gan_core.align.landmarks import LANDMARK_SOURCES, LandmarkSource
from gan_core.checkpoints.files import file_sha256
from gan_core.errors import DataError
from gan_core.geometry import Points
from gan_core.rows import Rejected, Row

Table = dict[str, Points]


class FfhqImage(TypedDict, total=False):
    """One image of an entry in FFHQ's JSON."""

    file_path: str
    face_landmarks: list[list[float]]


class FfhqEntry(TypedDict, total=False):
    """One entry of FFHQ's JSON: a photograph and the image aligned from it."""

    in_the_wild: FfhqImage
    image: FfhqImage


@LANDMARK_SOURCES.register("table")
class TableLandmarks(LandmarkSource):
    """Looks a row's key up in the file ``models.landmarks``, first by its whole path, then by its file name."""

    def landmarks(self, image: Image.Image, row: Row) -> Points | Rejected:
        """Return the points ``[5, 2]`` or ``[68, 2]`` of the row, or ``no_face`` if the file has none."""
        table = read_table(self.checkpoint)
        points = table.get(row["key"], table.get(row["key"].rsplit("/", 1)[-1]))
        return Rejected("no_face", f"{self.checkpoint} has no landmarks for it") if points is None else points

    def identity(self) -> dict[str, object]:
        """Return the file's hash."""
        return {"landmarks_sha256": file_sha256(self.checkpoint)}


@cache
def read_table(path: str) -> Table:
    """Read CelebA's ``list_landmarks*.txt`` or ``.csv``, or FFHQ's ``ffhq-dataset-v2.json``.

    Raises ``DataError`` if the file is missing, has another layout, or lists no landmarks.
    """
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
        if "." in name and len(numbers) == 10:  # skips the row count and the column names
            table[name] = np.array(numbers, dtype=np.float64).reshape(5, 2)
    return table


def _ffhq(content: dict[str, FfhqEntry]) -> Table:
    """Return the points of photographs and aligned images by path, and of photographs also by file name."""
    table: Table = {}
    for entry in content.values():
        for image, is_photograph in ((entry.get("in_the_wild", {}), True), (entry.get("image", {}), False)):
            if (points := image.get("face_landmarks")) is not None:
                path = image["file_path"]
                table[path] = np.array(points, dtype=np.float64).reshape(68, 2)
                if is_photograph:
                    table[path.rsplit("/", 1)[-1]] = table[path]
    return table
