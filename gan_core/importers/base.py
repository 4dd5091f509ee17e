"""The base class of importers, the files that they read, and the items that they yield."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, ClassVar
from unicodedata import category

import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from gan_core.errors import DataError
from gan_core.importers.tally import Tally
from gan_core.registry import Registry
from gan_core.rows import Row
from gan_core.secrets import hide
from gan_core.storage.urls import base_name

MAX_FILE_BYTES = 256 << 20
"""Larger image files are rejected; it bounds the memory of a row."""
MAX_KEY_CHARACTERS = 512
"""Longer names are shortened, and a hash at the end keeps them distinct."""
MAX_EXPORTED_CHARACTERS = 2 * MAX_KEY_CHARACTERS
"""The same for keys that an export wrote, ``<row>/<picture>``."""
ESCAPED = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that are escaped: controls, halves of characters, and ends of lines and paragraphs."""


@dataclass(frozen=True)
class SourceFile:
    """A file of the source. ``name`` is its path below the source, and ``fault`` says why it can't be opened."""

    fs: AbstractFileSystem
    path: str
    name: str
    size: int
    fault: str = ""

    @property
    def shown(self) -> str:
        """The path as messages show it: an address without its secrets."""
        return hide(self.path) if "://" in self.path else self.path

    def open(self) -> IO[bytes]:
        """Open the file for reading; raises ``OSError`` if that fails."""
        return self.fs.open(self.path, "rb")

    @contextmanager
    def reading(self) -> Iterator[IO[bytes]]:
        """Open the file for reading in the ``with`` block; raises ``DataError`` if it can't be opened or read."""
        if self.fault:
            raise DataError(f"can't read {self.shown}: {self.fault}")
        with self.explaining(), self.open() as opened:
            yield opened

    def read(self, most: int = -1) -> tuple[bytes | None, str]:
        """Return the bytes, or ``None`` and why the file can't be opened; raises ``DataError`` if its disk fails."""
        if self.fault:
            return None, self.fault
        with self.explaining():
            try:
                with self.open() as opened:
                    return opened.read(most), ""
            except (PermissionError, FileNotFoundError) as error:
                return None, f"{error.strerror or error}"

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Raise ``DataError`` if the ``with`` block can't open or read the file; a lost connection stays what it is."""
        try:
            yield
        except OSError as error:
            if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
                raise
            said = error.strerror or type(error).__name__
            raise DataError(
                f"can't read {self.shown} ({said}): make it readable, or move it out of the source"
            ) from error

    def has_suffix(self, suffixes: Sequence[str]) -> bool:
        """Return whether the name ends in one of ``suffixes``, ignoring case; one without a dot at first is a name."""
        endings = tuple(suffix for suffix in suffixes if suffix.startswith("."))
        return self.name.lower().endswith(endings) or base_name(self.name) in suffixes


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


def as_text(value: object) -> str:
    """Return a value as text, bytes with what is not UTF-8 in them such that ``printable`` escapes it."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def printable(name: str, most: int = MAX_KEY_CHARACTERS) -> str:
    """Return ``name`` as a key: control characters and invalid UTF-8 are escaped, and long names are shortened."""
    try:
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # halves of characters that stand for no byte: JSON can state them
        text = name.encode("utf-8", "backslashreplace").decode()
    text = "".join(c.encode("unicode_escape").decode() if category(c) in ESCAPED else c for c in text)
    if len(text) <= most:
        return text
    return f"{text[: most - 17]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"
