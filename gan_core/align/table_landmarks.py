"""Landmarks in a file beside the dataset: CelebA's list of five points, or FFHQ's JSON with 68."""

from __future__ import annotations

import csv
import json
from functools import cached_property, lru_cache

import numpy as np
from PIL import Image

from gan_core.align.ffhq import FfhqTable, normal
from gan_core.align.landmarks import LANDMARK_SOURCES, LandmarkSource
from gan_core.checkpoints.files import file_sha256, local_copy
from gan_core.errors import CheckpointError, DataError
from gan_core.geometry import Points
from gan_core.importers.dataset import imported_from
from gan_core.rows import Rejected, Row
from gan_core.secrets import hide_all
from gan_core.storage.keys import read_keys
from gan_core.storage.urls import explain_denied, file_name

Table = dict[str, Points | None]
"""Points by name; none where several lines of one name differ."""
MATCHING = 2
"""Raised when a row of FFHQ may get other landmarks than before, so that it is aligned again."""
CELEBA_ALIGNED, CELEBA_ALIGNED_SIZE = "list_landmarks_align_celeba", (178, 218)
CELEBA_PHOTOGRAPHS = "list_landmarks_celeba"
"""Both lists have the same names of files; only the size of a picture tells which of them is about it."""
LIST_MATCHING = 1
"""Raised when a row may get other landmarks of a list than before."""


@LANDMARK_SOURCES.register("table")
class TableLandmarks(LandmarkSource):
    """Looks a row up in the file ``models.landmarks``: in CelebA's list by its key, whole or only the file name.

    Where only the file name is listed and several rows have it, their landmarks are ambiguous.
    In FFHQ's JSON a row is found by the hash of its file, or by its path, which is its key and the folder that the
    dataset was imported from. Where neither names a picture, its size decides. What is still ambiguous is rejected.
    """

    def landmarks(self, image: Image.Image, row: Row) -> Points | Rejected:
        """Return the points ``[5, 2]`` or ``[68, 2]`` of the row, or ``no_face`` if the file has none.

        Landmarks of a picture of another size are ``degenerate_landmarks``, and those that may belong to another
        picture are ``ambiguous_landmarks``.
        """
        table = read_table(self.checkpoint)
        if isinstance(table, FfhqTable):
            data = (row.get("image") or {}).get("bytes") or b""
            found = table.landmarks(f"{self.folder}/{row['key']}", data, image)
        else:
            found = self._in_list(table, row["key"], image)
        if isinstance(found, Rejected):
            return Rejected(found.status, f"{file_name(self.checkpoint)} {found.reason}")
        return found

    def _in_list(self, table: Table, key: str, image: Image.Image) -> Points | Rejected:
        key = normal(key)
        bare = key.rsplit("/", 1)[-1]
        found = key if key in table else bare
        if found not in table:
            return Rejected("no_face", "has no landmarks for it")
        if found != key and bare in self.shared:
            return Rejected(
                "ambiguous_landmarks", f"lists only {bare!r}, a name that several rows have: list whole keys"
            )
        points = table[found]
        if points is None:
            return Rejected("ambiguous_landmarks", f"has several lines for {found!r}, with different points")
        name, is_aligned = file_name(self.checkpoint), image.size == CELEBA_ALIGNED_SIZE
        reason = ""
        if name.startswith(CELEBA_ALIGNED) and not is_aligned:
            reason = (
                f"is for CelebA's aligned pictures of 178x218 pixels, but this one has {image.width}x{image.height}"
            )
        if name.startswith(CELEBA_PHOTOGRAPHS) and is_aligned:
            reason = f"is for CelebA's photographs, but this one is an aligned picture (178x218): {CELEBA_ALIGNED} is"
        return Rejected("degenerate_landmarks", reason) if reason else points

    @cached_property
    def shared(self) -> set[str]:
        """The file names that several rows of the dataset have, in different folders."""
        seen: set[str] = set()
        shared: set[str] = set()
        for key in read_keys(self.dataset) if self.dataset else ():
            bare = normal(key).rsplit("/", 1)[-1]
            (shared if bare in seen else seen).add(bare)
        return shared

    @cached_property
    def folder(self) -> str:
        """What FFHQ's JSON calls the folder that the dataset was imported from, or an empty string."""
        table = read_table(self.checkpoint)
        return table.folder_of(imported_from(self.dataset)) if isinstance(table, FfhqTable) else ""

    def identity(self) -> dict[str, object]:
        """Return the file's hash and how rows are found: the rule's version, and for FFHQ the folder of the import."""
        same: dict[str, object] = {"landmarks_sha256": file_sha256(self.checkpoint)}
        is_ffhq = isinstance(read_table(self.checkpoint), FfhqTable)
        return same | ({"matching": MATCHING, "folder": self.folder} if is_ffhq else {"matching": LIST_MATCHING})


def read_table(path: str) -> Table | FfhqTable:
    """Read CelebA's ``list_landmarks*.txt`` or ``.csv``, or FFHQ's ``ffhq-dataset-v2.json``, at a path or a URL.

    A local file is read again when it has changed. Raises ``DataError`` if the file is missing, has another layout or a
    line that is no name with five points, or lists no landmarks.
    """
    try:
        return _read_table(path, file_sha256(path))
    except CheckpointError:
        raise DataError(f"no table of landmarks at {hide_all(path)}: name it in models.landmarks") from None


@lru_cache(maxsize=4)
def _read_table(path: str, _sha256: str) -> Table | FfhqTable:
    try:
        with explain_denied(path):
            text = local_copy(path).read_text("utf-8-sig")
        table = FfhqTable(json.loads(text)) if file_name(path).endswith(".json") else _celeba(text)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"no table of landmarks at {hide_all(path)} ({error}): name it in models.landmarks") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, csv.Error) as error:
        raise DataError(f"{hide_all(path)} is neither CelebA's list of landmarks nor FFHQ's JSON ({error})") from None
    if not (table.has_landmarks if isinstance(table, FfhqTable) else table):
        raise DataError(f"{hide_all(path)} lists no landmarks: name CelebA's list or FFHQ's JSON in models.landmarks")
    return table


def _celeba(text: str) -> Table:
    """Read lines of a name and ten numbers, separated by commas, semicolons or blanks, after a count or a header."""
    table: Table = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, *cells = _cells(line)
        numbers = [value for value in map(_number, cells) if value is not None]
        if not numbers and not table:
            continue  # the row count, the column names
        is_cut = len(name.split()) > 1 and _number(name.split()[-1]) is not None  # there are more than ten
        if not name or is_cut or len(numbers) != len(cells) or len(numbers) != 10:
            raise ValueError(f"line {number} is not a name and ten numbers: {line[:60]!r}")
        name, points = normal(name), np.array(numbers).reshape(5, 2)
        known = table.get(name, points)
        table[name] = points if known is not None and np.array_equal(known, points) else None
    return table


def _cells(line: str) -> list[str]:
    """Return the cells of a line, at least one; names may have blanks, and where they are quoted also commas."""
    separator = next((each for each in ",;\t" if each in line), None)
    if separator is None:
        return line.strip().rsplit(None, 10) or [""]
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
