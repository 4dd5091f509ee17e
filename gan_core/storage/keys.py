"""Check the rows of a dataset before a run: each has a status, and a key that no other row has."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gan_core.errors import DataError
from gan_core.storage.names import require_name
from gan_core.storage.shards import BASE_NAMES, explain_damage, list_shards, open_shard
from gan_core.storage.urls import base_name

CHECKED = ("key", "status")
IMPORT = "make a dataset with `edit-dataset import SRC DST`"


def check_rows(source: str) -> dict[str, int]:
    """Return the numbers of rows of a dataset's shards by name.

    Raises ``DataError`` for a shard that is damaged or empty or lacks a column that every shard has, for rows without a
    key or status, and for a key that two rows have. Of each key eight bytes are kept until all are seen.
    """
    shards = list_shards(source)
    hashes = {shard: _hash_keys(shard) for shard in shards}
    _check_equal(hashes)
    return {require_name(base_name(shard), source): len(hashes[shard]) for shard in shards}


def _hash_keys(shard: str) -> np.ndarray:
    parts = [np.fromiter(map(hash, keys), np.int64, len(keys)) for keys in _read_keys(shard)]
    if not parts:
        raise DataError(f"{shard} has no rows: remove it or import the dataset again")
    return np.concatenate(parts)


def _read_keys(shard: str) -> Iterator[list[str]]:
    with open_shard(shard) as file:
        schema = file.schema_arrow
        if absent := sorted(set(BASE_NAMES) - set(schema.names)):
            raise DataError(f"{shard} has no column {', '.join(absent)}: {IMPORT}")
        for kind in map(schema.field, BASE_NAMES):
            if not _is_text(kind.type) and (kind.name in CHECKED or not pa.types.is_null(kind.type)):
                raise DataError(f"{shard} has {kind.name} of the type {kind.type}, not text: {IMPORT}")
        with explain_damage(shard):
            for batch in file.iter_batches(columns=list(CHECKED)):
                columns = {name: batch[name].cast(pa.string()) for name in CHECKED}
                for name, column in columns.items():
                    if empty := pc.sum(pc.equal(pc.fill_null(column, ""), "")).as_py():
                        raise DataError(f"{shard} has {empty} rows without a {name}: give each row one, or {IMPORT}")
                yield columns["key"].to_pylist()


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_equal(hashes: dict[str, np.ndarray]) -> None:
    found, counts = np.unique(np.concatenate(list(hashes.values())), return_counts=True)
    if not (counts > 1).any():
        return
    suspects = found[counts > 1]
    keys: Counter[str] = Counter()
    places: dict[str, str] = {}
    for shard, own in hashes.items():
        if np.isin(own, suspects).any():
            for part in _read_keys(shard):
                keys.update(part)
                places |= dict.fromkeys(part, shard)
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        raise DataError(
            f"{len(twice)} keys are of more than one row, such as {ascii(twice[0])[:80]} in {places[twice[0]]}: "
            f"give each row a key of its own, or {IMPORT}"
        )
