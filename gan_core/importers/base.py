"""The base class of importers, the files that they read, and the items that they yield."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, ClassVar

import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from gan_core.importers.tally import Tally
from gan_core.registry import Registry
from gan_core.rows import Row

MAX_FILE_BYTES = 256 << 20
"""Larger image files are rejected; it bounds the memory of a row."""
MAX_KEY_CHARACTERS = 512
"""Longer names are shortened, and a hash at the end keeps them distinct."""


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

    ``fields`` are the additional columns (``Item.extra``). Files with the suffixes ``beside`` are among ``files`` too,
    but alone they are no source. ``left_out`` takes what is skipped on purpose, and ``noted`` what is imported with a
    loss. Every file or record that should be an image yields an item, with a status other than ``ok`` if it can't be
    used.
    """

    suffixes: ClassVar[tuple[str, ...]]
    beside: ClassVar[tuple[str, ...]] = ()
    fields: Sequence[pa.Field] = ()

    def __init__(self, files: Sequence[SourceFile]) -> None:
        self.files = files
        self.left_out = Tally()
        self.noted = Tally()

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """Yield the items; raises ``DataError`` for a file that can't be read at all."""


IMPORTERS: Registry[type[Importer]] = Registry("kind of source", "gan_core.importers", Importer)


def printable(name: str) -> str:
    """Return ``name`` as a key: control characters and invalid UTF-8 are escaped, and long names are shortened."""
    try:
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # halves of characters that stand for no byte: JSON can state them
        text = name.encode("utf-8", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if len(text) <= MAX_KEY_CHARACTERS:
        return text
    return f"{text[: MAX_KEY_CHARACTERS - 17]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"
