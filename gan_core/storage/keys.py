"""Check a dataset before a run: each row has a status and a key of its own, and pictures are where they are read."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gan_core.errors import DataError, near_matches
from gan_core.storage.names import require_name
from gan_core.storage.receipts import read_receipt, receipt_path
from gan_core.storage.shards import BASE_NAMES, explain_damage, holds_images, list_shards, open_shard
from gan_core.storage.urls import base_name
from gan_core.wording import counted

CHECKED = ("key", "status")
IMPORT = "make a dataset with `edit-dataset import SRC DST`"


@dataclass(frozen=True)
class Dataset:
    """A checked dataset: the numbers of rows of its shards by name, and their columns by URL."""

    rows: dict[str, int]
    schemas: dict[str, pa.Schema]

    def check_pictures(self, wanted: Mapping[str, str]) -> None:
        """Raise ``DataError`` for a shard without pictures in one of the columns that are ``wanted``.

        The keys of ``wanted`` are what asks for the column, such as a parameter.
        """
        for asking, column in wanted.items():
            for shard, schema in self.schemas.items():
                if column not in schema.names:
                    raise DataError(f"{asking}: {shard} has no column {column!r}{near_matches(column, schema.names)}")
                kind = schema.field(column).type
                if not holds_images(kind) and not pa.types.is_null(kind):
                    raise DataError(f"{asking}: the column {column!r} of {shard} holds {kind}, not pictures")


def check_dataset(source: str) -> Dataset:
    """Return what is known of a dataset's shards.

    Raises ``DataError`` for a shard that is damaged or empty or lacks a column that every shard has, for one with fewer
    rows than its receipt says, for rows without a key or status, and for a key that two rows have. Of each key eight
    bytes are kept until all are seen.
    """
    shards = list_shards(source)
    schemas: dict[str, pa.Schema] = {}
    hashes = {shard: _hash_keys(shard, schemas) for shard in shards}
    for shard, keys in hashes.items():
        _check_whole(shard, len(keys))
    _check_equal(hashes)
    return Dataset({require_name(base_name(shard), source): len(hashes[shard]) for shard in shards}, schemas)


def read_keys(source: str) -> Iterator[str]:
    """Yield the keys of a dataset's rows, in order; raises ``DataError`` as ``check_dataset`` does for its shards."""
    for shard in list_shards(source):
        for part in _read_keys(shard, {}):
            yield from part


def _hash_keys(shard: str, schemas: dict[str, pa.Schema]) -> np.ndarray:
    """Return the hashes of a shard's keys, and add its columns to ``schemas``."""
    parts = [np.fromiter(map(hash, keys), np.int64, len(keys)) for keys in _read_keys(shard, schemas)]
    if not parts:
        raise DataError(f"{shard} has no rows: remove it or import the dataset again")
    return np.concatenate(parts)


def _check_whole(shard: str, rows: int) -> None:
    receipt = read_receipt(shard)
    if receipt and (before := sum(receipt.rows.values())) > rows:
        raise DataError(
            f"{shard} has {counted(rows, 'row')}, and its receipt says {before}: import the dataset again, or remove "
            f"{receipt_path(shard)} if rows were taken out on purpose"
        )


def _read_keys(shard: str, schemas: dict[str, pa.Schema]) -> Iterator[list[str]]:
    with open_shard(shard) as file:
        schema = schemas[shard] = file.schema_arrow
        if absent := sorted(set(BASE_NAMES) - set(schema.names)):
            raise DataError(f"{shard} has no column {', '.join(absent)}: {IMPORT}")
        for kind in map(schema.field, BASE_NAMES):
            if not is_text(kind.type) and (kind.name in CHECKED or not pa.types.is_null(kind.type)):
                raise DataError(f"{shard} has {kind.name} of the type {kind.type}, not text: {IMPORT}")
        with explain_damage(shard):
            for batch in file.iter_batches(columns=list(CHECKED)):
                columns = {name: batch[name].cast(pa.string()) for name in CHECKED}
                for name, column in columns.items():
                    if empty := pc.sum(pc.equal(pc.fill_null(column, ""), "")).as_py():
                        raise DataError(
                            f"{shard} has {counted(empty, 'row')} without a {name}: give each row one, or {IMPORT}"
                        )
                yield columns["key"].to_pylist()


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type holds text, in whatever form Arrow stores it."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _check_equal(hashes: dict[str, np.ndarray]) -> None:
    found, counts = np.unique(np.concatenate(list(hashes.values())), return_counts=True)
    if not (counts > 1).any():
        return
    suspects = found[counts > 1]
    keys: Counter[str] = Counter()
    places: dict[str, str] = {}
    for shard, own in hashes.items():
        if np.isin(own, suspects).any():
            for part in _read_keys(shard, {}):
                keys.update(part)
                places |= dict.fromkeys(part, shard)
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        raise DataError(
            f"{len(twice)} keys are of more than one row, such as {ascii(twice[0])[:80]} in {places[twice[0]]}: "
            f"give each row a key of its own, or {IMPORT}"
        )
