"""Run one stage over one shard: skip, read, process, count and commit."""

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from gan_core.device import compute_on
from gan_core.errors import DataError
from gan_core.rows import Progress, Rejected, Row
from gan_core.runs.stage import Stage
from gan_core.storage.atomic import exclusive, sweep_temporary
from gan_core.storage.images import ImageError
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
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def run_stage(stage: Stage, shard: str, output: str | Path, progress: Progress | None = None) -> Receipt:
    """Make ``output/<stage.name>/<shard>`` from the shards of that name in the stage's inputs, unless it exists.

    ``shard`` is a file name (``shard-00000.parquet``). ``progress`` is called with the number of rows just done. Rows
    that are not ``ok`` are passed on with their status, ``ok`` rows with their flag. Returns the receipt (``reused``
    says that nothing was done). Raises ``DataError`` for inputs that are missing, damaged, empty or don't match, when
    another process writes the same shard, and when the disk is full; other errors of the stage are raised as they are,
    and nothing is written.
    """
    target = stage_shard(stage, shard, output)
    inputs = _input_urls(stage, shard, output)
    draft = _draft(stage, inputs)
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
        draft = _draft(stage, _input_urls(stage, shard, output))
    except DataError:
        return None
    receipt, _ = valid_receipt(stage_shard(stage, shard, output), draft.key)
    return receipt and receipt.model_copy(update={"reused": True})


def stage_shard(stage: Stage, shard: str, output: str | Path) -> str:
    """Return the URL of what ``run_stage`` makes."""
    return join_url(output, stage.name, shard)


def _draft(stage: Stage, inputs: dict[str, str]) -> Receipt:
    """The receipt of a shard that is still to be made: the fields that are known in advance."""
    input_keys = {name: _input_key(name, url) for name, url in inputs.items()}
    code, identity = code_version(stage.version), stage.identity()
    return Receipt(
        stage=stage.name,
        key=content_key(stage.name, code, identity, input_keys),
        input_keys=input_keys,
        output_sha256="",
        rows={},
        seconds=0.0,
        code_version=code,
        identity=identity,
    )


def _make(stage: Stage, inputs: dict[str, str], target: str, draft: Receipt, count: "_Count") -> Receipt:
    begin = time.perf_counter()
    expected = _count_rows(inputs)
    sweep_temporary(target)
    stage.statistics()  # drops what an attempt that failed has left in the stage
    stage.finished = count.finished
    with ShardWriter(target, stage.fields) as writer:
        for rows in _joined(inputs, max(stage.batch_size, 1)):
            writer.write(_advance(stage, rows))
            count.written(len(rows))
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


def _advance(stage: Stage, rows: Sequence[Row]) -> list[Row]:
    fresh = iter(_process(stage, [row for row in rows if row["status"] == "ok"]))
    return [_outcome(stage, row, next(fresh)) if row["status"] == "ok" else _base(row) for row in rows]


def _process(stage: Stage, rows: Sequence[Row]) -> list[Row | Rejected]:
    results: list[Row | Rejected] = []
    size = max(stage.batch_size, 1)
    while len(results) < len(rows):
        batch = rows[len(results) : len(results) + size]
        fresh = _attempt(stage, batch)
        if not isinstance(fresh, Rejected):
            results += fresh
        elif len(batch) == 1:
            results.append(fresh)
        else:
            size = len(batch) // 2
            if fresh.status == "oom":
                _remember_limit(stage, len(batch), size)
    return results


def _attempt(stage: Stage, batch: Sequence[Row]) -> list[Row | Rejected] | Rejected:
    try:
        with compute_on(stage.compute):
            results = stage.process(batch)
    except ImageError as error:
        return Rejected(error.status, error.reason)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return Rejected("oom", f"out of memory with this row alone: {' '.join(str(error).split())[:200]}")
    if len(results) != len(batch):
        raise RuntimeError(f"stage {stage.name} gave {len(results)} results for {len(batch)} rows")
    return results


def _remember_limit(stage: Stage, tried: int, size: int) -> None:
    _log.warning("stage %s ran out of memory with %d rows: going on with %d", stage.name, tried, size)
    stage.batch_size = size
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` means that the machine or the device ran out of memory."""
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in _OUT_OF_MEMORY)


def _outcome(stage: Stage, row: Row, result: Row | Rejected) -> Row:
    if not isinstance(result, Rejected):
        result = _checked(stage, result)
    if isinstance(result, Rejected):
        return {"key": row["key"], "status": result.status, "reason": result.reason, "stage": stage.name}
    return {"key": row["key"], "status": "ok", "reason": row["reason"] or "", "stage": stage.name, **result}


def _base(row: Row) -> Row:
    return {name: row[name] for name in BASE_NAMES}


def _checked(stage: Stage, columns: Row) -> Row | Rejected:
    unknown = columns.keys() - {field.name for field in stage.fields} - {"reason"}
    if unknown:
        raise ValueError(f"stage {stage.name} gave columns that it does not declare: {sorted(unknown)}")
    for field in stage.fields:
        cell = columns.get(field.name)
        if cell is not None and _is_float(field.type) and not np.isfinite(np.asarray(cell, dtype=np.float64)).all():
            return Rejected("not_finite", f"{field.name} has NaN or infinite values")
    return columns


def _is_float(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_floating(kind))


class _Count:
    """Reports every row once: when its stage reports it as finished, else when its batch is written."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.early = 0

    def finished(self, rows: int) -> None:
        self.early += rows
        self._tell(rows)

    def written(self, rows: int) -> None:
        self.early, rest = max(self.early - rows, 0), max(rows - self.early, 0)
        self._tell(rest)

    def _tell(self, rows: int) -> None:
        if self.progress and rows:
            self.progress(rows)
