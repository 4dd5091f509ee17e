"""Paths as fsspec URLs, so that local folders, buckets and ``memory://`` are used in the same way."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from gan_core.errors import DataError
from gan_core.storage.names import check_path

CHUNK = 1 << 20
"""Bytes that are read at once to hash a file."""
CLIENTS = ("botocore", "aiohttp", "gcsfs", "azure")
"""Packages whose errors mean that a bucket could not be reached or used."""


def open_fs(url: str | Path) -> tuple[AbstractFileSystem, str]:
    """Return the file system of ``url`` and the path inside it; a bare path is local.

    Raises ``DataError`` for a protocol that is unknown or whose client is not installed, and for names that no file
    can have.
    """
    try:
        fs, path = url_to_fs(str(url))
    except (ImportError, ValueError) as error:
        raise DataError(f"can't use {url}: {error} (for s3://: pip install -e '.[s3]' -c constraints.txt)") from None
    if isinstance(fs, LocalFileSystem):
        check_path(path)
    return fs, path


def join_url(base: str | Path, *names: str) -> str:
    """Append ``names`` to a folder URL."""
    base = str(base)
    return "/".join([base[:-1] if base.endswith("/") else base, *names])


def base_name(url: str | Path) -> str:
    """Return the last part of ``url``."""
    return str(url).rstrip("/").rsplit("/", 1)[-1]


def file_name(url: str | Path) -> str:
    """Return the name of a file, without what follows it in an address."""
    return base_name(str(url).partition("?")[0] if "://" in str(url) else url)


def is_local(url: str | Path) -> bool:
    """Return whether ``url`` is on a local file system, where locks and renames work."""
    return isinstance(open_fs(url)[0], LocalFileSystem)


def store_place(url: str | Path) -> tuple[str, str]:
    """Return what two spellings of one place have in common: its kind of store, and its whole path there."""
    fs, path = open_fs(url)
    return type(fs).__name__, os.path.abspath(path) if isinstance(fs, LocalFileSystem) else path.rstrip("/")


def is_inside(url: str | Path, folder: str | Path) -> bool:
    """Return whether ``url`` is ``folder`` or lies in it; the links of a local file system are followed."""
    (fs, inner), (other, outer) = open_fs(url), open_fs(folder)
    if isinstance(fs, LocalFileSystem):
        inner, outer = os.path.realpath(inner), os.path.realpath(outer)
    return type(fs) is type(other) and f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")


def is_store_error(error: BaseException | None) -> bool:
    """Return whether the client of an object store raised ``error``: such errors need not be ``OSError``."""
    return type(error).__module__.partition(".")[0] in CLIENTS


def exists(url: str | Path) -> bool:
    """Return whether ``url`` exists now; cached listings of remote file systems are dropped first."""
    fs, path = open_fs(url)
    fs.invalidate_cache()
    return bool(fs.exists(path))


def names_in(folder: str | Path) -> list[str]:
    """Return the names of what is in a folder now, in no order; none if there is no folder. No sign is a wildcard."""
    fs, path = open_fs(folder)
    fs.invalidate_cache()
    return [base_name(entry) for entry in fs.ls(path, detail=False)] if fs.isdir(path) else []


@contextmanager
def explain_denied(url: str | Path) -> Iterator[None]:
    """Raise ``DataError`` for what may not be read."""
    try:
        yield
    except PermissionError as error:
        raise DataError(f"can't read {url}: permission denied, so ask for the right to read it") from error


def read_bytes(url: str | Path) -> bytes:
    """Return the bytes of a small file.

    Raises ``FileNotFoundError`` if there is none, and ``DataError`` if it may not be read.
    """
    fs, path = open_fs(url)
    with explain_denied(url):
        return bytes(fs.cat_file(path))


def hash_file(url: str | Path) -> str:
    """Return the sha256 of a file. An unchanged local file is not read again.

    Raises ``FileNotFoundError`` if there is none, and ``DataError`` if it may not be read.
    """
    fs, path = open_fs(url)
    with explain_denied(url):
        if not isinstance(fs, LocalFileSystem):
            return _digest(fs, path)
        seen = os.stat(path)
        return _digest_unchanged(path, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


@lru_cache(maxsize=1 << 16)
def _digest_unchanged(path: str, *_stamp: int) -> str:
    return _digest(LocalFileSystem(), path)


def _digest(fs: AbstractFileSystem, path: str) -> str:
    digest = hashlib.sha256()
    with fs.open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
