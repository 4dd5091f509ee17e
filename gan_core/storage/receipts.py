"""Receipts record the inputs and outputs of a shard, and tell whether the shard is still valid."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gan_core.errors import DataError
from gan_core.storage.atomic import remove, write_bytes
from gan_core.storage.shards import count_rows
from gan_core.storage.urls import base_name, exists, hash_file, read_bytes
from gan_core.wording import changed

ABSENT = "it is not there"
"""The reason for making a shard that does not exist yet."""
NO_RECEIPT = "it has no receipt"
"""The reason for making a shard again that was withdrawn, or that nobody finished."""


class Receipt(BaseModel):
    """The record beside a shard, written after the shard.

    ``key`` is the content key, ``input_keys`` has the sha256 of each input shard by stage, and ``identity`` is what
    the stage depends on. ``rows`` counts rows by status, and ``flags`` counts the flags of ``ok`` rows. ``why`` is
    the reason for the work. ``device`` is the kind of device that made the shard, not stored for the CPU, and no part
    of the key. ``shard`` is the name of the file that it is the receipt of; those of imports and of former versions
    have none. ``reused`` (not stored) is true if the shard was already valid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    key: str
    input_keys: dict[str, str]
    output_sha256: str
    rows: dict[str, Annotated[int, Field(ge=0)]]
    flags: dict[str, Annotated[int, Field(ge=0)]] = {}
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    statistics_sha256: str | None = None
    code_version: str
    identity: dict[str, object]
    why: str = ""
    device: str = "cpu"
    shard: str = ""
    reused: bool = Field(default=False, exclude=True)


_ABSENT = (FileNotFoundError, NotADirectoryError)
_UNREADABLE = (ValidationError, UnicodeDecodeError, IsADirectoryError)


def read_json(url: str | Path) -> Any:
    """Return what a small JSON file of ours holds.

    Raises ``FileNotFoundError`` if there is none, and ``ValueError`` of a few words for what can't be read as JSON.
    """
    try:
        return json.loads(read_bytes(url))
    except IsADirectoryError:
        raise ValueError("it is a folder") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(str(error)[:200]) from None


def receipt_path(shard: str | Path) -> str:
    """Return the path of a shard's receipt."""
    return f"{shard}.receipt.json"


def statistics_path(shard: str | Path) -> str:
    """Return the path of a shard's mergeable statistics."""
    return f"{shard}.stats.npz"


def canonical_json(value: object) -> str:
    """Return ``value`` as JSON with sorted keys and no spaces.

    Raises ``ValueError`` for NaN and infinity, and ``TypeError`` for types that JSON doesn't have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def code_version(stage_version: int) -> str:
    """Return ``<version of this package>/<version of the stage>``, part of every content key."""
    return f"{_package_version()}/{stage_version}"


@cache
def _package_version() -> str:
    try:
        return version("edit-dataset")
    except PackageNotFoundError:
        return "source"


def content_key(stage: str, code: str, identity: Mapping[str, object], input_keys: Mapping[str, str]) -> str:
    """Return the sha256 over everything that the output depends on: the same key means the same output."""
    parts = {"stage": stage, "code": code, "identity": dict(identity), "inputs": dict(input_keys)}
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def write_receipt(shard: str | Path, receipt: Receipt) -> None:
    """Write the receipt of a shard, which commits its data and statistics."""
    left_out = {name for name, usual in (("device", "cpu"), ("shard", "")) if getattr(receipt, name) == usual}
    write_bytes(receipt_path(shard), (receipt.model_dump_json(indent=1, exclude=left_out) + "\n").encode())


def read_receipt(shard: str | Path) -> Receipt | None:
    """Return what a shard's receipt says, valid or not; None if there is none that can be read."""
    try:
        return Receipt.model_validate_json(read_bytes(receipt_path(shard)))
    except (*_ABSENT, *_UNREADABLE):
        return None


def valid_receipt(shard: str | Path, key: str | None = None) -> tuple[Receipt | None, str]:
    """Return a shard's receipt if it matches the data, the statistics and ``key``, else ``None`` and the reason."""
    try:
        receipt = Receipt.model_validate_json(read_bytes(receipt_path(shard)))
    except _ABSENT:
        return None, NO_RECEIPT if exists(shard) else ABSENT
    except _UNREADABLE:
        return None, "its receipt is damaged"
    if receipt.shard and receipt.shard != base_name(str(shard)):
        return None, f"its receipt is that of {receipt.shard}"
    if key is not None and receipt.key != key:
        return None, "its inputs or params have changed"
    if key is not None and _is_altered(receipt):
        return None, "its receipt was altered"
    return (None, why) if (why := _mismatch(shard, receipt)) else (receipt, "")


def hash_shards(receipts: Iterable[Receipt]) -> str:
    """Return the sha256 over the hashes of shards, in order."""
    return hashlib.sha256("".join(receipt.output_sha256 for receipt in receipts).encode()).hexdigest()


def require_receipt(shard: str | Path, what_to_do: str) -> Receipt:
    """Return the receipt of a shard; raises ``DataError``, ending in ``what_to_do``, if it is not valid."""
    receipt, why = valid_receipt(shard)
    if receipt is None:
        raise DataError(f"can't use {shard}, {why}: {what_to_do}")
    return receipt


def explain_change(shard: str | Path, identity: Mapping[str, object], input_keys: Mapping[str, str], code: str) -> str:
    """Describe how a shard's receipt differs from the requested work; empty if it doesn't, or if there is none."""
    old = read_receipt(shard)
    if old is None:
        return ""
    new = {"identity": dict(identity), "inputs": dict(input_keys), "code": code}
    before = {"identity": old.identity, "inputs": old.input_keys, "code": old.code_version}
    return ", ".join(_differences(before, json.loads(canonical_json(new)), ""))


def write_statistics(shard: str | Path, statistics: Mapping[str, np.ndarray]) -> str | None:
    """Write arrays ``[...]`` by name as npz and return the sha256, or ``None`` if there are none.

    The same arrays give the same bytes.
    """
    if not statistics:
        remove(statistics_path(shard))
        return None
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(statistics):
            entry = zipfile.ZipInfo(f"{name}.npy")  # has the fixed date 1980-01-01, so that bytes are reproducible
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(statistics[name], order="C"), allow_pickle=False)
    return write_bytes(statistics_path(shard), buffer.getvalue())


def read_statistics(shard: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays ``[...]`` of a shard's statistics by name, none if there is no file.

    Raises ``DataError`` if the file is damaged.
    """
    try:
        data = read_bytes(statistics_path(shard))
    except FileNotFoundError:
        return {}
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{statistics_path(shard)} is damaged ({error}): delete it and run again") from None


def _is_altered(receipt: Receipt) -> bool:
    """Whether stage, code, identity or inputs are not those that the content key was made from."""
    try:
        key = content_key(receipt.stage, receipt.code_version, receipt.identity, receipt.input_keys)
    except (ValueError, RecursionError):  # NaN in the identity, or lists in lists in lists
        return True
    return key != receipt.key


def _mismatch(shard: str | Path, receipt: Receipt) -> str:
    try:
        if hash_file(shard) != receipt.output_sha256:
            return "its data has changed since the receipt was written"
        rows, flags = count_rows(shard, flagged=bool(receipt.flags))
    except FileNotFoundError:
        return "its data is gone"
    except IsADirectoryError:
        return "a folder is where its data should be"
    except DataError:
        return "its data is not a shard"
    if receipt.rows != rows or receipt.flags not in ({}, flags):  # version 0.1 and importers wrote no flags
        return "the row counts in its receipt are not those of its data"
    if receipt.statistics_sha256 is None:
        return ""
    try:
        same = hash_file(statistics_path(shard)) == receipt.statistics_sha256
        return "" if same else "its statistics have changed since the receipt was written"
    except (FileNotFoundError, IsADirectoryError):
        return "its statistics are gone"


def _differences(before: object, after: object, path: str) -> list[str]:
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        names = sorted(before.keys() | after.keys())
        return [d for n in names for d in _differences(before.get(n), after.get(n), f"{path}.{n}" if path else n)]
    kind, _, name = path.partition(".")
    return [f"its input {name} has changed" if kind == "inputs" else f"{path}: {changed(before, after)}"]
