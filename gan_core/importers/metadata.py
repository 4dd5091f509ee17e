"""``metadata.parquet`` beside pictures, as HF ``datasets`` reads folders of pictures: what is said of each file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

import pyarrow.parquet as pq

from gan_core.errors import DataError
from gan_core.importers.base import SourceFile, printable
from gan_core.importers.tally import Tally
from gan_core.rows import Row
from gan_core.storage.shards import explain_damage

METADATA = "metadata.parquet"
EXPORTED_BY, OURS = "exported_by", "edit-dataset"
"""What the JSON beside a picture says if `edit-dataset export` wrote it: its ``key`` is the row's."""
DAMAGED = "metadata files that can't be read"


class FolderMetadata:
    """What the metadata files among ``files`` say of the pictures.

    A file is read when its folder is, and again after two others; a damaged one is told once.
    """

    def __init__(self, files: Sequence[SourceFile], left_out: Tally) -> None:
        named = (file for file in files if file.name.rpartition("/")[2] == METADATA)
        self.files = {file.name.removesuffix(METADATA): file for file in named}
        self.left_out = left_out
        self._damaged = set[str]()
        self._read = lru_cache(maxsize=2)(self._read_file)

    def of(self, name: str) -> Row:
        """Return what the nearest metadata file above a picture says of it, without its ``file_name``, or nothing."""
        folder = name
        while folder := folder[: folder.rfind("/", 0, -1) + 1]:
            if folder in self.files:
                return self._read(folder).get(name.removeprefix(folder), {})
        return self._read("").get(name, {}) if "" in self.files else {}

    def _read_file(self, folder: str) -> dict[str, Row]:
        file = self.files[folder]
        try:
            if file.fault:
                raise DataError(file.fault)
            with file.open() as opened, explain_damage(file.path):
                lines = pq.read_table(opened).to_pylist()
            return {str(line.pop("file_name")): line for line in lines}
        except (DataError, KeyError, PermissionError, FileNotFoundError):
            if folder not in self._damaged:
                self._damaged.add(folder)
                self.left_out.add(DAMAGED, printable(file.name))
            return {}


def as_sidecar(line: Row) -> bytes:
    """Return a line of metadata as the JSON that a sidecar would hold."""
    return json.dumps(line, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")


def exported_key(text: str | None) -> str:
    """Return the row's key in the JSON of a sidecar that an export wrote, or an empty string."""
    if not text or EXPORTED_BY not in text:
        return ""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    ours = isinstance(said, dict) and said.get(EXPORTED_BY) == OURS
    return printable(said["key"]) if ours and isinstance(said.get("key"), str) else ""
