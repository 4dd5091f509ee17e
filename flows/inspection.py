"""What is in a shard, a dataset or a run, as lines of text."""

from collections import Counter
from collections.abc import Iterator

from gan_core.runs.run import is_run, load_run
from gan_core.runs.summary import describe_gates, describe_outliers, find_summary
from gan_core.secrets import hide
from gan_core.storage.inspect import inspect_shard
from gan_core.storage.shards import list_shards
from gan_core.storage.urls import base_name
from gan_core.wording import counted

COLUMNS = "  columns  "
"""How the line with a shard's columns begins; shards that have those of the one before go without it."""


def describe(path: str) -> Iterator[str]:
    """Yield lines about a shard, a dataset or a run; raises ``DataError`` if ``path`` is none of them."""
    if path.endswith(".parquet"):
        yield from _describe_shard(path)
    elif is_run(path):
        yield from _describe_run(path)
    else:
        before: set[str] = set()
        for shard in list_shards(path):
            described = list(_describe_shard(shard))
            yield from (line for line in described if not (line.startswith(COLUMNS) and line in before))
            before = set(described)


def _describe_shard(url: str) -> Iterator[str]:
    shard = inspect_shard(url)
    receipt = shard["receipt"]
    more = ", ..." if shard["rows"] > len(shard["keys"]) else ""
    yield f"{url}: {_counts(Counter(shard['status']))}"
    yield f"  keys     {', '.join(shard['keys'])}{more}"
    yield f"{COLUMNS}{', '.join(f'{name} ({kind})' for name, kind in shard['columns'].items())}"
    yield f"  sha256   {shard['sha256']}"
    yield (
        f"  receipt  {receipt['stage']}, content key {receipt['key']}" if receipt else f"  receipt  {shard['trouble']}"
    )


def _describe_run(output: str) -> Iterator[str]:
    run = load_run(output)
    shards, rows = counted(len(run.shards), "shard"), counted(sum(run.rows.values()), "row")
    yield f"{output}: {run.recipe} run over {hide(run.source)}, {shards}, {rows}"
    for stage in run.stages:
        statuses: Counter[str] = Counter()
        flags: Counter[str] = Counter()
        unfinished = []
        for shard in run.shards:
            receipt, why = run.receipt(stage, shard)
            if receipt is None:
                unfinished.append(f"{base_name(shard)} ({why})")
            else:
                statuses.update(receipt.rows)
                flags.update(receipt.flags)
        missing = f"; not finished: {', '.join(unfinished)}" if unfinished else ""
        flagged = "".join(f", {n} of them {flag}" for flag, n in sorted(flags.items()))
        shards = counted(len(run.shards) - len(unfinished), "shard")
        yield f"  {stage:8} {shards}, {_counts(statuses)}{flagged}{missing}"
    summary = find_summary(output)
    yield from (f"  {line}" for line in (*describe_outliers(summary), *describe_gates(summary)))


def _counts(statuses: Counter[str]) -> str:
    """The ``ok`` ones first, then the most frequent faults."""
    order = sorted(statuses, key=lambda status: (status != "ok", -statuses[status], status))
    return counted(statuses.total(), "row") + "".join(f", {statuses[status]} {status}" for status in order)
