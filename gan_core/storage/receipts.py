"""Receipts: what a shard was made from, what came out, and whether it can still be trusted."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gan_core.errors import DataError
from gan_core.storage.atomic import remove, write_bytes
from gan_core.storage.urls import exists, hash_file, read_bytes

ABSENT = "it is not there"
"""Why a shard is made that was never made before."""


class Receipt(BaseModel):
    """The record beside a shard, written last.

    ``key`` is the content key; ``input_keys`` the sha256 of each input shard by stage; ``identity`` the stage's own;
    ``rows`` the counts by status, and ``flags`` those of the flags on ``ok`` rows; ``why`` the reason why the work was
    done; ``reused`` (not stored) that it was not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    key: str
    input_keys: dict[str, str]
    output_sha256: str
    rows: dict[str, int]
    flags: dict[str, int] = {}
    seconds: float
    statistics_sha256: str | None = None
    code_version: str
    identity: dict[str, Any]
    why: str = ""
    reused: bool = Field(default=False, exclude=True)


def receipt_path(shard: str | Path) -> str:
    """Return where the receipt of a shard is."""
    return f"{shard}.receipt.json"


def statistics_path(shard: str | Path) -> str:
    """Return where the mergeable statistics of a shard are."""
    return f"{shard}.stats.npz"


def canonical_json(value: Any) -> str:
    """Return the one JSON text of ``value`` (sorted keys, no spaces); NaN and unknown types raise."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def code_version(stage_version: int) -> str:
    """Return ``<version of this package>/<version of the stage>``, part of every content key."""
    try:
        return f"{version('edit-dataset')}/{stage_version}"
    except PackageNotFoundError:
        return f"source/{stage_version}"


def content_key(stage: str, code: str, identity: Mapping[str, Any], input_keys: Mapping[str, str]) -> str:
    """Return the sha256 that names the output: same key, same output."""
    parts = {"stage": stage, "code": code, "identity": dict(identity), "inputs": dict(input_keys)}
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def write_receipt(shard: str | Path, receipt: Receipt) -> None:
    """Write the receipt of a shard: the commit of its data and statistics."""
    write_bytes(receipt_path(shard), (receipt.model_dump_json(indent=1) + "\n").encode())


def valid_receipt(shard: str | Path, key: str | None = None) -> tuple[Receipt | None, str]:
    """Return the receipt if data and statistics are what it says (made under ``key``), else ``None`` and why not."""
    try:
        receipt = Receipt.model_validate_json(read_bytes(receipt_path(shard)))
    except FileNotFoundError:
        return None, "it has no receipt" if exists(shard) else ABSENT
    except (ValidationError, UnicodeDecodeError):
        return None, "its receipt is damaged"
    if key is not None and receipt.key != key:
        return None, "its inputs or params have changed"
    return (None, why) if (why := _mismatch(shard, receipt)) else (receipt, "")


def require_receipt(shard: str | Path, what_to_do: str) -> Receipt:
    """Return the valid receipt of a shard; raises ``DataError`` ending in ``what_to_do``."""
    receipt, why = valid_receipt(shard)
    if receipt is None:
        raise DataError(f"can't use {shard}, {why}: {what_to_do}")
    return receipt


def explain_change(shard: str | Path, identity: Mapping[str, Any], input_keys: Mapping[str, str], code: str) -> str:
    """Say what differs between a shard's receipt and the work at hand; empty when nothing does or there is none."""
    try:
        old = Receipt.model_validate_json(read_bytes(receipt_path(shard)))
    except (FileNotFoundError, ValidationError):
        return ""
    new = {"identity": dict(identity), "inputs": dict(input_keys), "code": code}
    before = {"identity": old.identity, "inputs": old.input_keys, "code": old.code_version}
    return ", ".join(_differences(before, json.loads(canonical_json(new)), ""))


def write_statistics(shard: str | Path, statistics: Mapping[str, np.ndarray]) -> str | None:
    """Write the statistics of a shard as npz, same arrays same bytes; return the sha256, ``None`` if there are none."""
    if not statistics:
        remove(statistics_path(shard))
        return None
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(statistics):
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, unlike a file's own time
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(statistics[name], order="C"), allow_pickle=False)
    return write_bytes(statistics_path(shard), buffer.getvalue())


def read_statistics(shard: str | Path) -> dict[str, np.ndarray]:
    """Return the statistics of a shard by name; none stored gives an empty dictionary."""
    try:
        data = read_bytes(statistics_path(shard))
    except FileNotFoundError:
        return {}
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{statistics_path(shard)} is damaged ({error}): delete it and run again") from None


def _mismatch(shard: str | Path, receipt: Receipt) -> str:
    try:
        if hash_file(shard) != receipt.output_sha256:
            return "its data has changed since the receipt was written"
    except FileNotFoundError:
        return "its data is gone"
    if receipt.statistics_sha256 is None:
        return ""
    try:
        same = hash_file(statistics_path(shard)) == receipt.statistics_sha256
        return "" if same else "its statistics have changed since the receipt was written"
    except FileNotFoundError:
        return "its statistics are gone"


def _differences(before: Any, after: Any, path: str) -> list[str]:
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        names = sorted(before.keys() | after.keys())
        return [d for n in names for d in _differences(before.get(n), after.get(n), f"{path}.{n}" if path else n)]
    return [f"{path} was {_short(before)}, is {_short(after)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
