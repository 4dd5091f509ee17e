"""What is in a shard or a dataset, as plain values that can be printed or stored."""

from collections import Counter
from pathlib import Path
from typing import Any

from gan_core.storage.receipts import receipt_path, valid_receipt
from gan_core.storage.shards import list_shards, open_shard, read_rows
from gan_core.storage.urls import hash_file

FIRST_KEYS = 3


def inspect_shard(url: str | Path) -> dict[str, Any]:
    """Return a shard's ``path, rows, status, stages, keys, columns, sha256, receipt, trouble``.

    ``status`` counts rows by status, ``stages`` by the stage that gave it; ``keys`` are the first few. ``receipt`` is
    ``None`` when there is no valid one, and ``trouble`` says why. Raises ``DataError`` if ``url`` is no shard.
    """
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


def inspect_dataset(url: str | Path) -> dict[str, Any]:
    """Return ``path, rows, status`` of all shards together, and ``shards``, each as ``inspect_shard`` has it."""
    shards = [inspect_shard(shard) for shard in list_shards(url)]
    statuses = sum((Counter(shard["status"]) for shard in shards), Counter())
    return {"path": str(url), "rows": statuses.total(), "status": dict(sorted(statuses.items())), "shards": shards}
