"""What each stage of a run did, from the receipts: rows, time and hashes."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from gan_core.runs.run import Run
from gan_core.storage.receipts import Receipt, receipt_path
from gan_core.storage.urls import read_bytes
from gan_core.wording import counted

SHARDS_SHOWN = 40


@dataclass(frozen=True)
class StageSummary:
    """A stage over all shards; ``hashes`` are (shard, sha256 of its data) of the first shards, ``identity`` is JSON."""

    name: str
    rows: Counter[str]
    seconds: float
    shards: int
    hashes: list[tuple[str, str]]
    identity: str

    @property
    def ok(self) -> int:
        """The number of rows that are ``ok`` after this stage."""
        return self.rows["ok"]

    @property
    def speed(self) -> str:
        """``ok`` rows per second of work, over all workers."""
        return f"{self.ok / self.seconds:.1f}" if self.seconds > 0 else ""


def summarise_stages(run: Run) -> list[StageSummary]:
    """Read all receipts of a run; missing or damaged ones are not counted."""
    return [_summarise(run, name) for name in run.stages]


def describe_stages(run: Run) -> Iterator[str]:
    """Say of each stage how long its work took, over all workers, how fast that is, and how many rows it gave."""
    for stage in summarise_stages(run):
        work = f"{stage.seconds:9.1f} s of work in {counted(stage.shards, 'shard')}"
        speed = f", {stage.speed} rows/s" if stage.speed else ""
        yield f"{stage.name:8} {work}: {stage.ok} of {counted(stage.rows.total(), 'row')} ok{speed}"


def _summarise(run: Run, name: str) -> StageSummary:
    rows: Counter[str] = Counter()
    seconds, hashes = 0.0, []
    for shard in run.shards:
        receipt = _read(run.shard(name, shard))
        if receipt is not None:
            rows.update(receipt.rows)
            seconds += receipt.seconds
            hashes.append((shard, receipt.output_sha256))
    identity = json.dumps(run.identities[name], indent=1, sort_keys=True)
    return StageSummary(name, rows, seconds, len(hashes), hashes[:SHARDS_SHOWN], identity)


def _read(shard: str) -> Receipt | None:
    try:
        return Receipt.model_validate_json(read_bytes(receipt_path(shard)))
    except (FileNotFoundError, IsADirectoryError, ValidationError):
        return None
