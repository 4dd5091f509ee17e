"""``metadata.parquet`` beside pictures, as HF ``datasets`` reads folders of pictures: what is said of each file."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from gan_core.errors import DataError
from gan_core.importers.base import MAX_EXPORTED_CHARACTERS, SourceFile, as_text, printable
from gan_core.importers.names import is_picture
from gan_core.importers.sidecars import MAX_SIDECAR_BYTES
from gan_core.importers.tally import Tally
from gan_core.rows import Row
from gan_core.storage.shards import explain_damage
from gan_core.storage.urls import base_name, open_fs

METADATA = "metadata.parquet"
EXPORT = "export.json"
"""What says of a folder that `edit-dataset export` wrote it, and whether it has finished."""
EXPORTED_BY, OURS = "exported_by", "edit-dataset"
"""What the JSON beside a picture says if `edit-dataset export` wrote it: its ``key`` is the row's."""
EXPORTED = frozenset({"key", "row", "picture", "attribute", "strength"})
"""The columns that `edit-dataset export` writes beside ``file_name``: where all are there, ``key`` is the row's."""
TWICE = "lines of metadata for a picture with a JSON file of its own, which is taken"
DAMAGED = "metadata files that can't be read"
UNMATCHED = "lines of metadata without a picture of that name"
REPEATED = "lines of metadata for a picture that a later line is about too"


class FolderMetadata:
    """What the metadata files among ``files`` say of the pictures.

    A file is read when its folder is, and again after two others. What is wrong with it is told once: that it is
    damaged, or which of its lines are about no picture.
    """

    def __init__(self, files: Sequence[SourceFile], left_out: Tally) -> None:
        named = (file for file in files if file.name.rpartition("/")[2] == METADATA)
        self.files = {file.name.removesuffix(METADATA): file for file in named}
        self.left_out = left_out
        self._pictures = {file.name for file in files if is_picture(file.name)} if self.files else set[str]()
        self._told = set[str]()
        self._read = lru_cache(maxsize=2)(self._read_file)

    def of(self, name: str) -> Row:
        """Return what the nearest metadata file above a picture says of it, without its ``file_name``, or nothing."""
        folder = self._nearest(name)
        return {} if folder is None else self._read(folder).get(name.removeprefix(folder), {})

    def key_of(self, name: str) -> str:
        """Return the key of a picture's row: what an export called it, else the picture's name."""
        said = self.of(name)
        own = said["key"] if said.keys() >= EXPORTED else None
        return printable(str(own), MAX_EXPORTED_CHARACTERS) if own else printable(name)

    def tell_rest(self) -> None:
        """Count the lines of files that no picture made necessary to read."""
        for folder in self.files.keys() - self._told:
            self._read(folder)

    def _nearest(self, name: str) -> str | None:
        folder = name
        while folder := folder[: folder.rfind("/", 0, -1) + 1]:
            if folder in self.files:
                return folder
        return "" if "" in self.files else None

    def _read_file(self, folder: str) -> dict[str, Row]:
        file, is_new = self.files[folder], folder not in self._told
        self._told.add(folder)
        named = _named_lines(file)
        if named is None:
            if is_new:
                self.left_out.add(DAMAGED, printable(file.name))
            return {}
        if is_new:
            self._tell(folder, (name for name, _ in named))
        return dict(named)

    def _tell(self, folder: str, names: Iterable[str]) -> None:
        seen = set[str]()
        for name in names:
            picture = folder + name
            if picture not in self._pictures or self._nearest(picture) != folder:
                self.left_out.add(UNMATCHED, printable(picture))
            elif name in seen:
                self.left_out.add(REPEATED, printable(picture))
            seen.add(name)


def _named_lines(file: SourceFile) -> list[tuple[str, Row]] | None:
    """Return the lines with the paths of their pictures, or ``None`` if the file is damaged or can't be opened.

    Raises ``DataError`` if its disk fails.
    """
    data, _ = file.read()
    if data is None:
        return None
    try:
        with explain_damage(file.shown):
            lines = pq.read_table(pa.BufferReader(data)).to_pylist()
        return [(_relative(line.pop("file_name")), line) for line in lines]
    except (DataError, KeyError, ValueError, OverflowError):
        return None


def _relative(file_name: object) -> str:
    """Return a ``file_name`` as the path below the folder of its file: ``./a.png`` is ``a.png``."""
    return posixpath.normpath(as_text(file_name))


def as_sidecar(line: Row) -> bytes:
    """Return a line of metadata as the JSON that a sidecar would hold."""
    return json.dumps(line, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")


def find_cut_off(source: str | Path, files: Sequence[SourceFile]) -> SourceFile | None:
    """Return what says that an export has not finished, so that keys are missing: among the files or above ``source``.

    Each part of an export is a folder, and its keys are written last.
    """
    told = [file for file in files if base_name(file.name) == EXPORT]
    if not any(file.name == METADATA for file in files):
        told += _above(source)
    return next(filter(_is_cut_off, told), None)


def _above(source: str | Path) -> Iterator[SourceFile]:
    """Yield what may say of the nearest folder above a local folder that an export wrote it."""
    fs, root = open_fs(source)
    if isinstance(fs, LocalFileSystem) and os.path.isdir(root):
        paths = (folder / EXPORT for folder in Path(os.path.realpath(root)).parents)
        if path := next(filter(Path.is_file, paths), None):
            yield SourceFile(fs, str(path), EXPORT, path.stat().st_size)


def _is_cut_off(file: SourceFile) -> bool:
    text, _ = file.read(MAX_SIDECAR_BYTES)
    try:
        said = json.loads(text or b"")
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and {"key", "format"} <= said.keys() and said.get("finished") is False


def exported_key(text: str | None) -> str:
    """Return the row's key in the JSON of a sidecar that an export wrote, or an empty string."""
    if not text or EXPORTED_BY not in text:
        return ""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    ours = isinstance(said, dict) and said.get(EXPORTED_BY) == OURS
    return printable(said["key"], MAX_EXPORTED_CHARACTERS) if ours and isinstance(said.get("key"), str) else ""
