"""Import tar archives in the WebDataset layout, where ``name.jpg``, ``name.json`` and ``name.txt`` form a sample."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import IO, Protocol, cast

import pyarrow as pa

from gan_core.errors import DataError
from gan_core.importers.base import IMPORTERS, MAX_FILE_BYTES, Importer, Item, SourceFile, printable
from gan_core.importers.folder import IMAGE_SUFFIXES
from gan_core.rows import Row
from gan_core.storage.urls import base_name

SIDECARS = ("json", "txt", "cls")
MAX_SIDECAR_BYTES = 1 << 20
"""Larger sidecars are ignored; it bounds the memory of a row."""
_BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)
Member = tuple[tarfile.TarInfo, bytes | None]


@IMPORTERS.register("tar")
class TarImporter(Importer):
    """Each image member becomes a row; its key is ``<archive without suffix>/<member>``.

    Sidecars of the same name become the text columns ``json``, ``txt`` and ``cls``. A list of points ``landmarks`` in
    the JSON becomes the column ``landmarks``. Nothing is unpacked to disk. Members whose names lead out of the archive
    are ``unsafe_name``, links and devices are ``not_a_file``, and sidecars without an image are ``no_image``. If an
    archive ends early, its last row is ``truncated``.
    """

    suffixes = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
    fields = (
        *(pa.field(name, pa.string()) for name in SIDECARS),
        pa.field("landmarks", pa.list_(pa.list_(pa.float64()))),
    )

    def items(self) -> Iterator[Item]:
        """Yield the members of each archive in order; raises ``DataError`` for a file that is not an archive."""
        for file in self.files:
            suffix = next(suffix for suffix in self.suffixes if file.has_suffix([suffix]))
            prefix = printable(file.name[: -len(suffix)])
            for _stem, group in groupby(_members(file, prefix), _stem_of):
                yield from self._rows(list(group), prefix)

    def _rows(self, group: list[Member | Item], prefix: str) -> Iterator[Item]:
        members = [found for found in group if not isinstance(found, Item)]
        images = [found for found in members if _is_image(found[0].name)]
        extra = _read_sidecars(members)
        self.ignored += len(members) - len(images) - len(extra.keys() & set(SIDECARS))
        for info, data in images:
            key = f"{prefix}/{_clean(info.name)}"
            if data is None:
                yield Item(key, None, status="too_large", reason=f"{info.size} bytes are too many", extra=extra)
            else:
                yield Item(key, data, base_name(key), extra=extra)
        if extra and not images:
            reason = "there is no image beside it in the archive"
            yield Item(f"{prefix}/{_clean(members[0][0].name)}", None, status="no_image", reason=reason, extra=extra)
        yield from (found for found in group if isinstance(found, Item))


def _members(file: SourceFile, prefix: str) -> Iterator[Member | Item]:
    """Stream an archive with one member at a time in memory; faulty members are yielded as items."""
    if file.fault:
        raise DataError(f"can't read {file.path}: {file.fault}")
    with file.open() as raw:
        stream = _Tail(_decompress(raw))
        try:
            archive = tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|")  # noqa: SIM115
        except _BROKEN as error:
            _pass_on_infrastructure(error)
            raise DataError(f"{file.path} is not a tar archive ({error}): remove it or fetch it again") from None
        with archive:
            yield from _walk(archive, stream, prefix)


def _walk(archive: tarfile.TarFile, stream: _Tail, prefix: str) -> Iterator[Member | Item]:
    current = "~end"
    try:
        for info in archive:
            current = _clean(info.name)
            if fault := _fault(info):
                yield Item(f"{prefix}/{current}", None, status=fault[0], reason=fault[1])
            elif info.isfile():
                yield info, _read(archive, info)
            current = "~end"
        if stream.block_at(archive.offset) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("no end mark")  # tarfile treats a damaged or missing header as the end of the archive
    except _BROKEN as error:
        _pass_on_infrastructure(error)
        reason = f"the archive ends early or is damaged here ({error})"
        yield Item(f"{prefix}/{current}", None, status="truncated", reason=reason)


class _Readable(Protocol):
    """A binary stream, as the decompressors return it."""

    def read(self, size: int = ..., /) -> bytes: ...


class _Tail:
    """A stream that remembers the end of what it has read."""

    def __init__(self, raw: _Readable) -> None:
        self._raw = raw
        self._tail = b""
        self._end = 0

    def read(self, size: int) -> bytes:
        data = self._raw.read(size)
        self._tail = self._tail[-2 * tarfile.RECORDSIZE :] + data
        self._end += len(data)
        return data

    def block_at(self, offset: int) -> bytes:
        begin = offset - (self._end - len(self._tail))
        return self._tail[begin : begin + tarfile.BLOCKSIZE]


def _decompress(raw: IO[bytes]) -> _Readable:
    magic = raw.read(6)
    raw.seek(0)
    openers: dict[bytes, Callable[[IO[bytes]], _Readable]] = {
        b"\x1f\x8b": gzip.open,
        b"BZh": bz2.open,
        b"\xfd7zXZ\0": lzma.open,
    }
    opener = next((opener for start, opener in openers.items() if magic.startswith(start)), None)
    return raw if opener is None else opener(raw)


def _pass_on_infrastructure(error: Exception) -> None:
    if isinstance(error, OSError) and (error.errno is not None or isinstance(error, ConnectionError | TimeoutError)):
        raise error


def _read(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes | None:
    if info.size > (MAX_FILE_BYTES if _is_image(info.name) else MAX_SIDECAR_BYTES):
        return None
    opened = archive.extractfile(info)
    return None if opened is None else opened.read()


def _fault(info: tarfile.TarInfo) -> tuple[str, str] | None:
    if info.name.startswith("/") or ".." in info.name.split("/"):
        return "unsafe_name", "the member's name leads out of the archive"
    if not info.isfile() and not info.isdir():
        return "not_a_file", "the member is a link or a device"
    return None


def _stem_of(found: Member | Item) -> str:
    if isinstance(found, Item):
        return found.key
    folder, _, name = found[0].name.rpartition("/")
    return f"{folder}/{name.split('.')[0]}"


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _clean(name: str) -> str:
    return printable(name.removeprefix("./"))


def _read_sidecars(members: list[Member]) -> Row:
    texts: Row = {}
    for info, data in members:
        suffix = info.name.rpartition(".")[2].lower()
        if suffix in SIDECARS and data is not None:
            texts[suffix] = data.decode("utf-8", "replace")
    landmarks = _read_landmarks(texts.get("json", ""))
    return texts | {"landmarks": landmarks} if landmarks else texts


def _read_landmarks(text: str) -> list[list[float]] | None:
    try:
        points = json.loads(text)["landmarks"]
        return [[float(x), float(y)] for x, y in points]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
