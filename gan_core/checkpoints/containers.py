"""Read the index of a checkpoint file: torch zip files, legacy torch files, pickles and safetensors.

No tensor is loaded and no code is run. The content is returned as inert records and the positions of tensors.
"""

import json
import math
import mmap
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TypedDict, TypeVar

import torch

from gan_core.checkpoints.allowed import STORAGES, Global
from gan_core.checkpoints.files import Card, parse_card, placeholder
from gan_core.checkpoints.pickles import PickleReader
from gan_core.checkpoints.stored import (
    Refused,
    Storage,
    StoredTensor,
    check_numbers,
    loaded,
    place_tensor,
    row_major,
    stored_tensors,
)
from gan_core.errors import CheckpointError

MAX_FILE_BYTES = 32 << 30
MAX_INDEX_BYTES = 64 << 20
MAX_ENTRIES = 100_000
"""Bounds on the time and memory that a hostile file can cost."""
MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
"""The first two values of a legacy torch file (``torch.serialization.MAGIC_NUMBER``, ``PROTOCOL_VERSION``)."""
OTHER_FILES = {
    (0, b"\x1f\x8b"): "a gzip archive: unpack it first",
    (0, b"BZh"): "a bzip2 archive: unpack it first",
    (0, b"7z\xbc\xaf"): "a 7z archive: unpack it first",
    (0, b"Rar!"): "a RAR archive: unpack it first",
    (257, b"ustar"): "a tar archive: unpack it first (PyTorch files of 2016 are tar too and must be saved again)",
    (0, b"\x89HDF"): "an HDF5 file (Keras), which holds none of the networks known here",
    (0, b"\x89PNG"): "a picture, not a checkpoint",
    (0, b"\xff\xd8\xff"): "a picture, not a checkpoint",
    (0, b"%PDF"): "a PDF document, not a checkpoint",
    (0, b"PAR1"): "a Parquet file, not a checkpoint",
    (0, b"\x93NUMPY"): "a numpy array, not a checkpoint",
}
SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "BOOL": torch.bool,
}


T = TypeVar("T")


class SafetensorsEntry(TypedDict):
    """A tensor in the header of a safetensors file."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


@dataclass(frozen=True)
class Contents:
    """The content of a file whose tensors are not loaded yet; ``container`` is the kind of file, ``view`` its bytes."""

    path: Path
    container: str
    value: object
    metadata: dict[str, str]
    view: memoryview

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the file."""
        return sha256(self.view).hexdigest()

    @property
    def card(self) -> Card | None:
        """The card, or None if the file has none; raises ``CheckpointError`` if it can't be read."""
        return parse_card(self.path, self.metadata) if "card" in self.metadata else None

    def load(self) -> object:
        """Return the content with all tensors loaded; raises ``CheckpointError`` if that fails."""
        return _in_one_sentence(self.path, lambda: loaded(self.value))


def open_checkpoint(path: str | Path) -> Contents:
    """Read the index of a checkpoint file of any known kind.

    Raises ``CheckpointError`` for a missing file, and for one that is too large, damaged, hostile or of another kind.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: name the checkpoint file in it")
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: download it, or name the right path")
    if meaning := placeholder(path):
        raise CheckpointError(f"{path} is {meaning}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise CheckpointError(f"{path} is refused: it has more than {MAX_FILE_BYTES >> 20} MiB")
    return _in_one_sentence(path, lambda: _open(path))


def _in_one_sentence(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except Refused as error:
        raise CheckpointError(f"{path} is refused: {error}") from None
    except (MemoryError, RecursionError):
        raise CheckpointError(f"{path} is refused: it needs more memory than there is to be read") from None


def _open(path: Path) -> Contents:
    with open(path, "rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    value: object
    metadata: dict[str, str] = {}
    if _is_safetensors(view):
        container, (value, metadata) = "safetensors", _read_safetensors(view)
    elif meaning := _other_file(view):
        raise Refused(f"it is {meaning}")
    elif bytes(view[:4]) == b"PK\x03\x04":
        container, value = "torch zip file", _read_zip(path, view)
    elif view[0] == 0x80:
        container, value = _read_stream(view, nested=lambda inner: _read_stream(inner)[1])
    else:
        raise Refused(f"it begins with {bytes(view[:8])!r}, like no checkpoint: it is damaged or another kind of file")
    written = sum(tensor.nbytes for tensor in stored_tensors(value))
    if written > 2 * len(view) + MAX_INDEX_BYTES:
        raise Refused(f"its tensors would fill {written >> 20} MiB, many times the file", unsafe=True)
    return Contents(path, container, value, metadata, view)


def _is_safetensors(view: memoryview) -> bool:
    """Whether a length below 4 GiB and a brace come first. The length may begin with the bytes of any other file."""
    return bytes(view[4:9]) == b"\0\0\0\0{"


def _other_file(view: memoryview) -> str:
    """Say what a file is that is no checkpoint; nothing if it may be one."""
    found = (meaning for (at, sign), meaning in OTHER_FILES.items() if bytes(view[at : at + len(sign)]) == sign)
    return next(found, "")


class _Places:
    """The storages that persistent ids refer to, by key; ``find`` returns the bytes of a new one."""

    def __init__(self, find: Callable[[Storage, str], memoryview | None]) -> None:
        self.find = find
        self.storages: dict[str, Storage] = {}

    def __call__(self, persistent_id: object) -> Storage:
        if not isinstance(persistent_id, tuple):
            raise Refused("it refers to data in an unknown way")
        kind, storage_type, key, _, count, *view = persistent_id
        known = isinstance(storage_type, Global) and storage_type.name in STORAGES
        if kind != "storage" or not known or type(count) is not int or count < 0 or not isinstance(key, str):
            raise Refused("it refers to data in an unknown way")
        if view and view[0] is not None:
            raise Refused("its storages are views of others: save it again with a newer PyTorch")
        dtype = STORAGES[storage_type.name]
        if key not in self.storages:
            self.storages[key] = Storage(dtype, count)
            self.storages[key].view = self.find(self.storages[key], key)
        if (self.storages[key].dtype, self.storages[key].count) != (dtype, count):
            raise Refused("it describes one storage in two ways", unsafe=True)
        return self.storages[key]


def _read_zip(path: Path, view: memoryview) -> object:
    entries = _zip_entries(path, view)
    index = next((name for name in entries if name.split("/", 1)[-1] == "data.pkl"), None)
    if index is None:
        raise Refused("it is a zip archive of other files, not a checkpoint: unpack it first")
    prefix = index.removesuffix("data.pkl")
    if any(name.startswith((f"{prefix}code/", f"{prefix}constants.pkl")) for name in entries):
        raise Refused("it is a TorchScript program, which is code: name the plain weights instead")
    if bytes(entries.get(f"{prefix}byteorder", b"little")) != b"little":
        raise Refused("it was written on a big-endian machine: save it again on this kind")
    if len(entries[index]) > MAX_INDEX_BYTES:
        raise Refused(f"its index has more than {MAX_INDEX_BYTES >> 20} MiB", unsafe=True)

    def find(storage: Storage, key: str) -> memoryview:
        data = entries.get(f"{prefix}data/{key}")
        if data is None or len(data) < storage.nbytes:
            raise Refused(f"its storage {key[:20]} is missing or too short: download it again")
        return data[: storage.nbytes]

    return _only(entries[index], _Places(find))


def _only(view: memoryview, places: _Places) -> object:
    reader = PickleReader(view, 0, places)
    value = reader.read()
    if reader.position != len(view):
        raise Refused("its index is followed by something else", unsafe=True)
    return value


def _zip_entries(path: Path, view: memoryview) -> dict[str, memoryview]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, OSError, NotImplementedError, EOFError) as error:
        text = " ".join(str(error).split())[:80]
        raise Refused(f"it is not a whole file ({text}): download it again") from None
    if len(infos) > MAX_ENTRIES or len({info.filename for info in infos}) != len(infos):
        raise Refused("it is a zip archive with far too many files, or two of one name", unsafe=True)
    if any(info.compress_type or info.compress_size != info.file_size or info.flag_bits & 1 for info in infos):
        raise Refused("its parts are compressed or encrypted, which PyTorch never does: unpack it first", unsafe=True)
    if sum(info.file_size for info in infos) > len(view):
        raise Refused("its parts overlap or are longer than the file", unsafe=True)
    return {info.filename: _zip_data(info, view) for info in infos}


def _zip_data(info: zipfile.ZipInfo, view: memoryview) -> memoryview:
    header = view[info.header_offset : info.header_offset + 30]
    if len(header) < 30 or bytes(header[:4]) != b"PK\x03\x04":
        raise Refused("its index gives a wrong position for a part: download it again")
    begin = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
    if begin + info.file_size > len(view):
        raise Refused("it ends early: download it again")
    return view[begin : begin + info.file_size]


def _read_stream(view: memoryview, nested: Callable[[memoryview], object] | None = None) -> tuple[str, object]:
    """Read a legacy torch file or a plain pickle; return the kind of file and the content."""
    first = PickleReader(view, 0, None, nested)
    value = first.read()
    if value != MAGIC or isinstance(value, bool):
        if first.position != len(view):
            raise Refused("it is a pickle followed by something else", unsafe=True)
        return "pickle", value
    return "legacy torch file", _read_legacy(view, first.position)


def _read_legacy(view: memoryview, position: int) -> object:
    places = _Places(lambda _storage, _key: None)
    values = []
    for _ in range(4):  # protocol version, machine, content, keys of the storages
        reader = PickleReader(view, position, places)
        values.append(reader.read())
        position = reader.position
    version, machine, content, keys = values
    if version != LEGACY_VERSION or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise Refused("it was written by an unknown PyTorch or on a big-endian machine")
    if not isinstance(keys, list) or set(map(str, keys)) != places.storages.keys() or len(set(keys)) != len(keys):
        raise Refused("it lists other tensors than it uses: download it again")
    for key in keys:
        storage = places.storages[key]
        begin = position + 8
        position = begin + storage.nbytes
        if position > len(view) or struct.unpack("<q", view[begin - 8 : begin])[0] != storage.count:
            raise Refused("it ends early or is damaged: download it again")
        storage.view = view[begin:position]
    return content


def _read_safetensors(view: memoryview) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    length = struct.unpack("<Q", view[:8])[0]
    if length > min(MAX_INDEX_BYTES, len(view) - 8):
        raise Refused("its header is longer than the file: download it again")
    try:
        header = json.loads(bytes(view[8 : 8 + length]))
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
            raise ValueError
        data = view[8 + length :]
        return {key: _placed(entry, data) for key, entry in header.items()}, metadata
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("its header is damaged: download it again") from None


def _placed(entry: SafetensorsEntry, data: memoryview) -> StoredTensor:
    begin, end = entry["data_offsets"]
    if entry["dtype"] not in SAFETENSORS_TYPES:
        raise Refused(f"it has tensors of the type {str(entry['dtype'])[:20]}, which is not read: save it as F32")
    dtype, shape = SAFETENSORS_TYPES[entry["dtype"]], tuple(entry["shape"])
    check_numbers(shape)
    if not 0 <= begin <= end <= len(data) or math.prod(shape) * dtype.itemsize != end - begin:
        raise Refused("its header gives a wrong position for a tensor: download it again")
    return place_tensor(Storage(dtype, math.prod(shape), data[begin:end]), 0, shape, row_major(shape))
