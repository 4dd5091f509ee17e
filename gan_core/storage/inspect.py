"""Summarise a shard as plain values that can be printed or stored."""

from collections import Counter
from pathlib import Path
from typing import Any, TypedDict

from gan_core.storage.receipts import receipt_path, valid_receipt
from gan_core.storage.shards import open_shard, read_rows
from gan_core.storage.urls import hash_file

FIRST_KEYS = 3


class ShardSummary(TypedDict):
    """What a shard holds, JSON-able.

    ``status`` counts rows by status, and ``stages`` by the stage that set the status. ``keys`` are the first few.
    ``receipt`` is ``None`` if there is no valid one, and ``trouble`` then says why.
    """

    path: str
    rows: int
    status: dict[str, int]
    stages: dict[str, int]
    keys: list[str]
    columns: dict[str, str]
    sha256: str
    receipt: dict[str, Any] | None
    trouble: str


def inspect_shard(url: str | Path) -> ShardSummary:
    """Read a shard and return its summary; raises ``DataError`` if ``url`` is not a shard."""
    with open_shard(url) as file:
        columns = {field.name: str(field.type) for field in file.schema_arrow}
        rows = file.metadata.num_rows
    statuses: Counter[str] = Counter()
    stages: Counter[str] = Counter()
    keys: list[str] = []
    for batch in read_rows(url, ["key", "status", "stage"], 1000):
        statuses.update(row["status"] for row in batch)
        stages.update(row["stage"] for row in batch)
        keys += [row["key"] for row in batch[: FIRST_KEYS - len(keys)]]
    receipt, trouble = valid_receipt(url)
    return {
        "path": str(url),
        "rows": rows,
        "status": dict(sorted(statuses.items())),
        "stages": dict(sorted(stages.items())),
        "keys": keys,
        "columns": columns,
        "sha256": hash_file(url),
        "receipt": receipt.model_dump(mode="json") if receipt else None,
        "trouble": trouble and f"{receipt_path(url)}: {trouble}",
    }
