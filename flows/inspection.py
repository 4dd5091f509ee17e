"""What is in a shard, a dataset or a run, as lines of text."""

from collections import Counter
from collections.abc import Iterator

from gan_core.chain import STAGES
from gan_core.data.receipts import valid_receipt
from gan_core.data.shards import list_shards, open_shard
from gan_core.data.urls import base_name, exists, hash_file, join_url
from gan_core.runs import RUN_FILE, load_run

SHOWN_KEYS = 3


def describe(path: str) -> Iterator[str]:
    """Yield lines about a shard, a dataset or a run; raises ``DataError`` if ``path`` is none of them."""
    if path.endswith(".parquet"):
        yield from _describe_shard(path)
    elif exists(join_url(path, RUN_FILE)):
        yield from _describe_run(path)
    else:
        for shard in list_shards(path):
            yield from _describe_shard(shard)


def _describe_shard(url: str) -> Iterator[str]:
    with open_shard(url) as file:
        base = file.read(columns=["key", "status"])
        fields = [f"{field.name} ({field.type})" for field in file.schema_arrow]
    statuses = Counter(base["status"].to_pylist())
    keys = base["key"].to_pylist()
    more = ", ..." if len(keys) > SHOWN_KEYS else ""
    receipt, why = valid_receipt(url)
    yield f"{url}: {_counts(statuses)}"
    yield f"  keys     {', '.join(keys[:SHOWN_KEYS])}{more}"
    yield f"  columns  {', '.join(fields)}"
    yield f"  sha256   {hash_file(url)}"
    yield f"  receipt  {receipt.stage}, content key {receipt.key[:12]}" if receipt else f"  receipt  none: {why}"


def _describe_run(output: str) -> Iterator[str]:
    job = load_run(output)
    yield f"{output}: run over {job.source}, {len(job.shards)} shards, {sum(job.rows.values())} rows"
    for stage in (name for name in STAGES if name in job.stages):
        statuses: Counter[str] = Counter()
        unfinished = []
        for shard in job.shards:
            receipt, why = valid_receipt(join_url(output, stage, shard))
            if receipt is None:
                unfinished.append(f"{base_name(shard)} ({why})")
            else:
                statuses.update(receipt.rows)
        missing = f"; not finished: {', '.join(unfinished)}" if unfinished else ""
        yield f"  {stage:8} {len(job.shards) - len(unfinished)} shards, {_counts(statuses)}{missing}"


def _counts(statuses: Counter[str]) -> str:
    """The ``ok`` ones first, then the most frequent faults."""
    order = sorted(statuses, key=lambda status: (status != "ok", -statuses[status], status))
    return f"{statuses.total()} rows" + "".join(f", {statuses[status]} {status}" for status in order)
