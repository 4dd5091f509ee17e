"""Run one stage over one shard: skip, read, do its steps, count and commit."""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

from gan_core.errors import DataError
from gan_core.rows import Progress, Row
from gan_core.runs.overlap import Overlap
from gan_core.runs.stage import Stage, identity_of
from gan_core.runs.steps import Batch, Steps
from gan_core.stopping import check_stop
from gan_core.storage.atomic import exclusive, sweep_temporary
from gan_core.storage.receipts import (
    Receipt,
    code_version,
    content_key,
    explain_change,
    require_receipt,
    valid_receipt,
    write_receipt,
    write_statistics,
)
from gan_core.storage.shards import BASE_NAMES, ShardWriter, open_shard, read_rows
from gan_core.storage.urls import base_name, hash_file, join_url

_log = logging.getLogger(__name__)


def run_stage(stage: Stage, shard: str, output: str | Path, progress: Progress | None = None) -> Receipt:
    """Make ``output/<stage.name>/<shard>`` from the shards of that name in the stage's inputs, unless it exists.

    ``shard`` is a file name (``shard-00000.parquet``). ``progress`` is called with the number of rows just done. Rows
    that are not ``ok`` are passed on with their status, ``ok`` rows with their flag. Returns the receipt (``reused``
    says that nothing was done). Raises ``DataError`` for inputs that are missing, damaged, empty or don't match, when
    another process writes the same shard, and when the disk is full, and ``Stopped`` between two batches if the work
    is asked to stop; other errors of the stage are raised as they are, and nothing is written.
    """
    target = stage_shard(stage, shard, output)
    inputs = _input_urls(stage, shard, output)
    draft = _draft(stage, shard, inputs)
    receipt, why = valid_receipt(target, draft.key)
    if receipt is None:
        with exclusive(target):
            receipt, why = valid_receipt(target, draft.key)
            if receipt is None:
                why = explain_change(target, draft.identity, draft.input_keys, draft.code_version) or why
                _log.info("making %s: %s", target, why)
                draft = draft.model_copy(update={"why": why})
                return _make(stage, inputs, target, draft, _Count(progress))
    if progress:
        progress(sum(receipt.rows.values()))
    return receipt.model_copy(update={"reused": True})


def find_finished(stage: Stage, shard: str, output: str | Path) -> Receipt | None:
    """Return the receipt (``reused``) of a shard that ``run_stage`` would skip; None if it would make the shard."""
    try:
        draft = _draft(stage, shard, _input_urls(stage, shard, output))
    except DataError:
        return None
    receipt, _ = valid_receipt(stage_shard(stage, shard, output), draft.key)
    return receipt and receipt.model_copy(update={"reused": True})


def stage_shard(stage: Stage, shard: str, output: str | Path) -> str:
    """Return the URL of what ``run_stage`` makes."""
    return join_url(output, stage.name, shard)


def _draft(stage: Stage, shard: str, inputs: dict[str, str]) -> Receipt:
    """The receipt of a shard that is still to be made: the fields that are known in advance."""
    input_keys = {name: _input_key(name, url) for name, url in inputs.items()}
    code, identity = code_version(stage.version), identity_of(stage)
    return Receipt(
        stage=stage.name,
        key=content_key(stage.name, code, identity, input_keys),
        input_keys=input_keys,
        output_sha256="",
        rows={},
        seconds=0.0,
        code_version=code,
        identity=identity,
        shard=shard,
    )


def _make(stage: Stage, inputs: dict[str, str], target: str, draft: Receipt, count: "_Count") -> Receipt:
    begin = time.perf_counter()
    expected = _count_rows(inputs)
    sweep_temporary(target)
    stage.statistics()  # drops what an attempt that failed has left in the stage
    stage.finished = count.finished
    size = max(stage.batch_size, 1)
    with ShardWriter(target, stage.fields) as writer, Overlap[Batch](stage.io_threads, size) as beside:
        steps = Steps(stage, beside)
        for batch in beside.ahead(steps.load(_joined(inputs, size))):
            check_stop()
            beside.behind(_write, writer, steps.advance(batch))
            count.done(len(batch[0]))
        beside.finish()
        if writer.rows != expected:
            raise DataError(
                f"{target} would have {writer.rows} rows instead of {expected}: this is a bug in {stage.name}"
            )
    receipt = draft.model_copy(
        update={
            "output_sha256": writer.sha256,
            "rows": dict(sorted(writer.statuses.items())),
            "flags": dict(sorted(writer.flags.items())),
            "statistics_sha256": write_statistics(target, stage.statistics()),
            "seconds": round(time.perf_counter() - begin, 3),
            "device": stage.compute.kind,
        }
    )
    write_receipt(target, receipt)
    return receipt


def _input_urls(stage: Stage, shard: str, output: str | Path) -> dict[str, str]:
    if "source" in stage.inputs and not stage.source:
        raise ValueError(f"stage {stage.name} reads the source, but its `source` is not set")
    return {n: join_url(stage.source, shard) if n == "source" else join_url(output, n, shard) for n in stage.inputs}


def _input_key(name: str, url: str) -> str:
    if name != "source":
        return require_receipt(url, f"run the {name} stage again").output_sha256
    try:
        return hash_file(url)
    except FileNotFoundError:
        raise DataError(f"no shard at {url}: check the dataset's path, or fetch it with `dvc pull`") from None


def _count_rows(inputs: dict[str, str]) -> int:
    counts = {}
    for name, url in inputs.items():
        with open_shard(url) as file:
            absent = sorted(set(BASE_NAMES) - set(file.schema_arrow.names))
            counts[name] = file.metadata.num_rows
        if absent:
            raise DataError(
                f"{url} has no column {', '.join(absent)}: make a dataset with `edit-dataset import SRC DST`"
            )
    url, rows = next(iter(inputs.values())), next(iter(counts.values()))
    if not rows:
        raise DataError(f"{url} has no rows: remove it or import the dataset again")
    if len(set(counts.values())) > 1:
        raise DataError(
            f"the inputs of {base_name(url)} have different numbers of rows ({counts}): run their stages again"
        )
    return rows


def _joined(inputs: dict[str, str], batch_size: int) -> Iterator[list[Row]]:
    for parts in zip(*(read_rows(url, batch_size=batch_size) for url in inputs.values()), strict=True):
        yield [_join(rows, inputs) for rows in zip(*parts, strict=True)]


def _join(rows: Sequence[Row], inputs: dict[str, str]) -> Row:
    if len({row["key"] for row in rows}) > 1:
        raise DataError(f"{', '.join(inputs.values())} hold different keys in one place: run their stages again")
    joined: Row = {}
    for name, row in zip(inputs, rows, strict=True):
        joined |= row
        if name == "source":  # its image gives way to the aligned one, which has the same name
            joined["source/image"] = row.get("image")
    first_fault = next((row for row in rows if row["status"] != "ok"), rows[-1])
    return joined | {name: first_fault[name] for name in BASE_NAMES}


def _write(writer: ShardWriter, rows: Sequence[Future[Row]]) -> None:
    writer.write([row.result() for row in rows])


class _Count:
    """Reports every row once: when its stage reports it as finished, else when its batch is calculated."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.early = 0

    def finished(self, rows: int) -> None:
        check_stop()
        self.early += rows
        self._tell(rows)

    def done(self, rows: int) -> None:
        self.early, rest = max(self.early - rows, 0), max(rows - self.early, 0)
        self._tell(rest)

    def _tell(self, rows: int) -> None:
        if self.progress and rows:
            self.progress(rows)
