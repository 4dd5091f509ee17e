"""Import tar archives in the WebDataset layout, where ``name.jpg``, ``name.json`` and ``name.txt`` form a sample."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Protocol, Self, cast

from gan_core.errors import DataError
from gan_core.importers.base import IMPORTERS, MAX_FILE_BYTES, Importer, Item, SourceFile, printable
from gan_core.importers.metadata import exported_key
from gan_core.importers.names import RESOURCE_FORKS, is_picture, is_resource_fork, kind_of
from gan_core.importers.sidecars import (
    FIELDS,
    LARGE,
    MAX_SIDECAR_BYTES,
    SHARED,
    match_sidecars,
    read_sidecars,
    sidecar_suffix,
)
from gan_core.importers.tally import Tally
from gan_core.rows import Row
from gan_core.storage.urls import base_name

INDEX_MEMORY = 64 << 20
"""Bytes of an archive's sidecars that are held in memory; more go to a temporary file."""
MAGIC_BYTES = 6
_ZSTANDARD = b"(\xb5/\xfd"
_NOT_MEMBERS = (b"D", b"V")
"""Types of what GNU tar writes beside the members: the list of a folder in an incremental archive, and a label."""
MOST_EMPTY = 16
"""Reads beyond the end of an archive: ``tarfile`` would go on for the size that a header states, however large."""
_BROKEN = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, OverflowError)
"""What ``tarfile`` raises for damaged archives; of numbers in their headers that are none it raises the last two."""


@dataclass(frozen=True)
class Member:
    """A member. ``data`` is ``None`` where it is too large or was not asked for; ``fault`` is a status and a reason."""

    name: str
    size: int = 0
    data: bytes | None = None
    fault: tuple[str, str] | None = None


@IMPORTERS.register("tar")
class TarImporter(Importer):
    """Each image member becomes a row; its key is ``<archive without suffix>/<member>``.

    Sidecars of the same name, wherever they are in the archive, become the text columns ``json``, ``txt`` and ``cls``.
    A list of points ``landmarks`` in the JSON becomes the column ``landmarks``. Nothing is unpacked to disk. Members
    whose names lead out of the archive are ``unsafe_name``, links and devices are ``not_a_file``, and sidecars without
    an image are ``no_image``. If an archive ends early, its last row is ``truncated``. An archive is read twice. Rows
    that `edit-dataset export` wrote keep their keys.
    """

    suffixes = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
    fields = FIELDS

    def items(self) -> Iterator[Item]:
        """Yield the members of each archive in order; raises ``DataError`` for a file that is not an archive."""
        for file in self.files:
            suffix = next(suffix for suffix in self.suffixes if file.has_suffix([suffix]))
            prefix = printable(file.name[: -len(suffix)])
            with _Sidecars(file, prefix, self.noted) as sidecars:
                for place, member in enumerate(_members(file, _takes_all)):
                    yield from self._item(f"{prefix}/{printable(member.name)}", place, member, sidecars)

    def _item(self, key: str, place: int, member: Member, sidecars: _Sidecars) -> Iterator[Item]:
        if is_resource_fork(member.name):
            self.left_out.add(RESOURCE_FORKS, key)
        elif member.fault:
            status, reason = member.fault
            yield Item(key, None, status=status, reason=reason, extra=sidecars.of(place))
        elif is_picture(member.name) and member.data is None:
            reason = f"{member.size} bytes are too many"
            yield Item(key, None, status="too_large", reason=reason, extra=sidecars.of(place))
        elif is_picture(member.name):
            extra = sidecars.of(place)
            yield Item(exported_key(extra.get("json")) or key, member.data, base_name(key), extra=extra)
        elif kind := sidecars.trouble(place, member):
            self.left_out.add(kind, key)
        elif extra := sidecars.alone(place):
            reason = "there is no image beside it in the archive"
            yield Item(key, None, status="no_image", reason=reason, extra=extra)


class _Sidecars:
    """The sidecars of an archive, read before its pictures: for the ``with`` block, as they may be many."""

    def __init__(self, file: SourceFile, prefix: str, noted: Tally) -> None:
        self.file = file
        self.prefix = prefix
        self.noted = noted

    def __enter__(self) -> Self:
        self._texts = tempfile.SpooledTemporaryFile(max_size=INDEX_MEMORY)
        self._parts: dict[int, tuple[int, int]] = {}
        self.names: list[str] = []
        for place, member in enumerate(_members(self.file, sidecar_suffix)):
            usable = member.data is not None or is_picture(member.name)
            self.names.append(member.name if usable and not is_resource_fork(member.name) else "")
            if member.data is not None:
                self._parts[place] = self._texts.tell(), len(member.data)
                self._texts.write(member.data)
        self.matches = match_sidecars(self.names)
        self._shared = set(self.matches.shared)
        self._alone = {group[0]: group for group in self.matches.alone}
        return self

    def __exit__(self, *_error: object) -> None:
        self._texts.close()

    def of(self, picture: int) -> Row:
        """Return the columns of the picture at this place of the archive."""
        return self._read(list(self.matches.of.get(picture, {}).values()))

    def alone(self, place: int) -> Row:
        """Return the columns of the sidecars without a picture whose first one is at this place, else none."""
        return self._read(self._alone.get(place, []))

    def trouble(self, place: int, member: Member) -> str:
        """Return the kind of what is left out, or an empty string for a sidecar that belongs to a row."""
        if not sidecar_suffix(member.name):
            return kind_of(member.name)
        if member.data is None:
            return LARGE
        return SHARED if place in self._shared else ""

    def _read(self, places: Sequence[int]) -> Row:
        contents = {}
        for place in places:
            name = self.names[place]
            start, size = self._parts[place]
            self._texts.seek(start)
            contents[sidecar_suffix(name)] = f"{self.prefix}/{printable(name)}", self._texts.read(size)
        return read_sidecars(contents, self.noted)


def _takes_all(_name: str) -> bool:
    return True


def _members(file: SourceFile, wanted: Callable[[str], object]) -> Iterator[Member]:
    """Stream an archive with the bytes of one member at a time in memory; a damaged end is a member with a fault.

    Archives that follow one another in one file are read as one.
    """
    with file.reading() as raw:
        stream: _Tail | None = _Tail(_decompress(raw, file.shown))
        is_first = True
        while stream is not None:
            try:
                archive = tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", tarinfo=_Header)  # noqa: SIM115
            except _BROKEN as error:
                _pass_on_infrastructure(error)
                if is_first:
                    raise DataError(
                        f"{file.shown} is not a tar archive ({error}): remove it or fetch it again"
                    ) from None
                yield Member("~end", fault=("truncated", f"something else follows the archive's end mark ({error})"))
                return
            with archive:
                stream = yield from _walk(archive, stream, wanted)
            is_first = False


def _walk(
    archive: tarfile.TarFile, stream: _Tail, wanted: Callable[[str], object]
) -> Generator[Member, None, _Tail | None]:
    """Yield the members; return the stream from what follows the end mark on, or None if nothing does."""
    current = "~end"
    try:
        for info in archive:
            current = info.name.removeprefix("./")
            if fault := _fault(info):
                yield Member(current, fault=fault)
            elif info.isfile():
                yield Member(current, info.size, _read(archive, info) if wanted(current) else None)
            current = "~end"
        if stream.block_at(archive.offset) != bytes(tarfile.BLOCKSIZE):
            raise EOFError("no end mark")  # tarfile treats a damaged or missing header as the end of the archive
        return stream.after_zeros(archive.offset)
    except _BROKEN as error:
        _pass_on_infrastructure(error)
        yield Member(current, fault=("truncated", f"the archive ends early or is damaged here ({error})"))
        return None


class _Readable(Protocol):
    """A binary stream, as the decompressors return it."""

    def read(self, size: int, /) -> bytes: ...


class _Returnable:
    """A stream that what was read of it can be given back to: some web servers send a file only once, in order."""

    def __init__(self, raw: _Readable) -> None:
        self._raw = raw
        self._returned = b""

    def read(self, size: int, /) -> bytes:
        data, self._returned = self._returned[:size], self._returned[size:]
        return data + self._raw.read(size - len(data))

    def give_back(self, data: bytes) -> None:
        self._returned = data + self._returned


class _Tail:
    """A stream that remembers the end of what it has read."""

    def __init__(self, raw: _Returnable) -> None:
        self._raw = raw
        self._tail = b""
        self._end = 0
        self._empty = 0

    def read(self, size: int) -> bytes:
        data = self._raw.read(size)
        self._empty += not data
        if self._empty > MOST_EMPTY:
            raise EOFError("no more data")
        self._tail = self._tail[-2 * tarfile.RECORDSIZE :] + data
        self._end += len(data)
        return data

    def block_at(self, offset: int) -> bytes:
        begin = offset - (self._end - len(self._tail))
        return self._tail[begin : begin + tarfile.BLOCKSIZE]

    def after_zeros(self, offset: int) -> _Tail | None:
        """Read on from ``offset`` to the first block that isn't zeros; return the stream from there on, if any."""
        rest, zeros = self._tail[offset - (self._end - len(self._tail)) :], bytes(tarfile.BLOCKSIZE)
        while rest:
            whole = len(rest) - len(rest) % tarfile.BLOCKSIZE
            for at in range(0, whole, tarfile.BLOCKSIZE):
                if rest[at : at + tarfile.BLOCKSIZE] != zeros:
                    return self._from(rest[at:])
            more = self._raw.read(tarfile.RECORDSIZE)
            if not more and any(rest[whole:]):
                return self._from(rest[whole:])
            rest = rest[whole:] + more if more else b""
        return None

    def _from(self, rest: bytes) -> _Tail:
        self._raw.give_back(rest)
        return _Tail(self._raw)


def _decompress(raw: IO[bytes], shown: str) -> _Returnable:
    stored = _Returnable(raw)
    magic = b""
    while len(magic) < MAGIC_BYTES and (more := stored.read(MAGIC_BYTES - len(magic))):
        magic += more  # a network may send less at once
    stored.give_back(magic)
    if magic.startswith(_ZSTANDARD):
        raise DataError(f"{shown} is compressed by Zstandard, which can't be read here: decompress it (`zstd -d`)")
    openers: dict[bytes, Callable[[IO[bytes]], _Readable]] = {
        b"\x1f\x8b": gzip.open,
        b"BZh": bz2.open,
        b"\xfd7zXZ\0": lzma.open,
    }
    opener = next((opener for start, opener in openers.items() if magic.startswith(start)), None)
    return stored if opener is None else _Returnable(opener(cast(IO[bytes], stored)))


def _pass_on_infrastructure(error: Exception) -> None:
    if isinstance(error, OSError) and (error.errno is not None or isinstance(error, ConnectionError | TimeoutError)):
        raise error


def _read(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes | None:
    if info.size > (MAX_FILE_BYTES if is_picture(info.name) else MAX_SIDECAR_BYTES):
        return None
    opened = archive.extractfile(info)
    return None if opened is None else opened.read()


class _Header(tarfile.TarInfo):
    """A header, of which the times in GNU's old format are no part of the name: Python takes them for a prefix."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        taken = bytes(buf[345:500]).split(b"\0")[0].decode(encoding, errors)
        if taken and buf[257:265] == tarfile.GNU_MAGIC:
            found.name = found.name.removeprefix(f"{taken}/")
        return found


def _fault(info: tarfile.TarInfo) -> tuple[str, str] | None:
    if info.name.startswith("/") or ".." in info.name.split("/"):
        return "unsafe_name", "the member's name leads out of the archive"
    if not info.isfile() and not info.isdir() and info.type not in _NOT_MEMBERS:
        return "not_a_file", "the member is a link or a device"
    return None
