"""The base class of importers, and the files of a source that they read."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar, TypedDict

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from gan_core.errors import DataError
from gan_core.registry import Registry
from gan_core.rows import Row
from gan_core.storage.urls import open_fs

MAX_FILE_BYTES = 256 << 20
"""Larger image files are rejected; it bounds the memory of a row."""
MAX_KEY_CHARACTERS = 512
"""Longer names are shortened, and a hash at the end keeps them distinct."""


class FileInfo(TypedDict, total=False):
    """The fields of a file in fsspec."""

    name: str
    size: int | None
    islink: bool


@dataclass(frozen=True)
class SourceFile:
    """A file of the source. ``name`` is its path below the source, and ``fault`` says why it can't be opened."""

    fs: AbstractFileSystem
    path: str
    name: str
    size: int
    fault: str = ""

    def open(self) -> IO[bytes]:
        """Open the file for reading; raises ``OSError`` if that fails."""
        return self.fs.open(self.path, "rb")

    def has_suffix(self, suffixes: Sequence[str]) -> bool:
        """Return whether the name ends in one of ``suffixes``, ignoring case."""
        return self.name.lower().endswith(tuple(suffixes))


@dataclass(frozen=True)
class Item:
    """A row to be imported. ``data`` is the image file unchanged; a ``status`` other than ``ok`` has a ``reason``."""

    key: str
    data: bytes | None
    path: str = ""
    status: str = "ok"
    reason: str = ""
    extra: Row = field(default_factory=dict)


class Importer(ABC):
    """Reads the files with its ``suffixes``, in the given order, and yields items of one schema.

    ``fields`` are the additional columns (``Item.extra``), and ``ignored`` counts files that are skipped on purpose.
    Every file or record that should be an image yields an item, with a status other than ``ok`` if it can't be used.
    """

    suffixes: ClassVar[tuple[str, ...]]
    fields: Sequence[pa.Field] = ()

    def __init__(self, files: Sequence[SourceFile]) -> None:
        self.files = files
        self.ignored = 0

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """Yield the items; raises ``DataError`` for a file that can't be read at all."""


IMPORTERS: Registry[type[Importer]] = Registry("kind of source", "gan_core.importers", Importer)


def find_files(source: str | Path) -> list[SourceFile]:
    """Return the files of a folder and its subfolders, sorted by name, or the single file ``source``.

    Hidden files and folders are skipped. Links to files are followed, links to folders are not. Raises ``DataError`` if
    ``source`` doesn't exist.
    """
    fs, root = open_fs(source)
    fs.invalidate_cache()
    if not fs.exists(root):
        raise DataError(f"nothing at {source}: check the path")
    if fs.isfile(root):
        return [_describe(fs, fs.info(root), os.path.dirname(root))]
    infos = (info for info in fs.find(root, detail=True).values() if not _is_linked_folder(fs, info))
    files = (_describe(fs, info, root) for info in infos)
    visible = (file for file in files if not any(part.startswith(".") for part in file.name.split("/")))
    return sorted(visible, key=lambda file: os.fsencode(file.name))


def printable(name: str) -> str:
    """Return ``name`` as a key: control characters and invalid UTF-8 are escaped, and long names are shortened."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text) <= MAX_KEY_CHARACTERS:
        return text
    return f"{text[: MAX_KEY_CHARACTERS - 17]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _describe(fs: AbstractFileSystem, info: FileInfo, root: str) -> SourceFile:
    path = info["name"]
    name = path[len(root) :].lstrip("/")
    fault = ""
    if isinstance(fs, LocalFileSystem) and not os.path.isfile(path):
        fault = "a link to nothing" if info.get("islink") else "not a regular file"
    return SourceFile(fs, path, name, int(info.get("size") or 0), fault)


def _is_linked_folder(fs: AbstractFileSystem, info: FileInfo) -> bool:
    return isinstance(fs, LocalFileSystem) and bool(info.get("islink")) and os.path.isdir(info["name"])
