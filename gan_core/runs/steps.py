"""The steps of a stage over batches of rows, and what becomes of a row that a step rejects or fails for."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pyarrow as pa

from gan_core.device import compute_on, on_host
from gan_core.rows import Rejected, Row
from gan_core.runs.overlap import Overlap
from gan_core.runs.stage import Stage, stage_fault
from gan_core.storage.images import ImageError
from gan_core.storage.shards import BASE_NAMES, unnest
from gan_core.wording import counted

_log = logging.getLogger(__name__)
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
Batch = tuple[list[Row], list[Future[Row | Rejected]]]
"""Rows, and what loading makes of those that are ``ok``."""


class Steps:
    """A stage's steps, each row's own in the threads of ``beside``.

    A stage that has its own ``process``, or is derived from one that has the steps, does all its work there.
    """

    def __init__(self, stage: Stage, beside: Overlap[Batch]) -> None:
        self.stage, self.beside = stage, beside
        self._load: Callable[[Row], Row | Rejected] = stage.load
        self._calculate: Callable[[Sequence[Row]], Iterable[Any]] = stage.calculate
        self._store: Callable[[Row, Any], Row | Rejected] = stage.store
        if getattr(stage.process, "__func__", None) is not Stage.process:
            self._load, self._calculate = _as_it_is, stage.process
            self._store = lambda row, made: Stage.store(stage, row, made)

    def load(self, batches: Iterable[list[Row]]) -> Iterator[Batch]:
        """Hand in the rows of each batch to be loaded."""
        for rows in batches:
            good = [row for row in rows if row["status"] == "ok"]
            yield rows, [self.beside.submit(_guarded, self._load, row) for row in good]

    def advance(self, batch: Batch) -> list[Future[Row]]:
        """Calculate the rows of a batch, and hand in each to be stored; gives what is to be written of each row."""
        rows, loading = batch
        loaded = iter([future.result() for future in loading])
        pairs = [(row, next(loaded) if row["status"] == "ok" else None) for row in rows]
        made = self._made([found for _, found in pairs if isinstance(found, dict)])
        return [
            next(made) if isinstance(found, dict) else self.beside.submit(self._written, row, found)
            for row, found in pairs
        ]

    def _made(self, rows: Sequence[Row]) -> Iterator[Future[Row]]:
        """Calculate loaded rows, fewer at a time where that fails."""
        done: list[Future[Row]] = []
        size = max(self.stage.batch_size, 1)
        while len(done) < len(rows):
            part = rows[len(done) : len(done) + size]
            fault = self._attempt(part, done)
            if fault is None:
                continue
            if len(part) == 1:
                done.append(self.beside.submit(self._written, part[0], fault))
                continue
            size = len(part) // 2
            if fault.status == "oom":
                _remember_limit(self.stage, len(part), size)
        return iter(done)

    def _attempt(self, rows: Sequence[Row], done: list[Future[Row]]) -> Rejected | None:
        """Add the rows that could be calculated to ``done``; gives the fault of the first that could not."""
        given = 0
        try:
            with compute_on(self.stage.compute):
                for made in self._calculate(rows):
                    if given < len(rows):
                        done.append(self.beside.submit(self._written, rows[given], made))
                    given += 1
        except (ImageError, MemoryError, RuntimeError) as error:
            return _fault(error)
        if given != len(rows):
            raise stage_fault(
                self.stage,
                f"it gave {counted(given, 'result')} for {counted(len(rows), 'row')}: give one for each, in order",
            )
        return None

    def _written(self, row: Row, made: Any) -> Row:
        """What is written of a row: as it was, its rejection, or its new columns."""
        if made is None:
            return {name: row[name] for name in BASE_NAMES}
        if not isinstance(made, Rejected):
            made = _guarded(self._store, row, made)
        if not isinstance(made, Rejected):
            made = _checked(self.stage, made)
        base = {"key": row["key"], "stage": self.stage.name}
        if isinstance(made, Rejected):
            return base | {"status": made.status, "reason": made.reason}
        return base | {"status": "ok", "reason": row["reason"] or ""} | made


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` means that the machine or the device ran out of memory."""
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in _OUT_OF_MEMORY)


def _as_it_is(row: Row) -> Row:
    return row


def _guarded(step: Callable[..., Row | Rejected], *given: Any) -> Row | Rejected:
    """Do a row's own step; where memory ran out it is tried once more, as other rows may have freed theirs."""
    try:
        try:
            with on_host():
                return step(*given)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        with on_host():
            return step(*given)
    except (ImageError, MemoryError, RuntimeError) as error:
        return _fault(error)


def _fault(error: Exception) -> Rejected:
    """Say of the row what went wrong; raises ``error`` if it is not the row's fault."""
    if isinstance(error, ImageError):
        return Rejected(error.status, error.reason)
    if not is_out_of_memory(error):
        raise error
    return Rejected("oom", f"out of memory with this row alone: {' '.join(str(error).split())[:200]}")


def _remember_limit(stage: Stage, tried: int, size: int) -> None:
    _log.warning("stage %s ran out of memory with %d rows: going on with %d", stage.name, tried, size)
    stage.batch_size = size
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _checked(stage: Stage, columns: Row) -> Row | Rejected:
    unknown = columns.keys() - {field.name for field in stage.fields} - {"reason"}
    if unknown:
        raise stage_fault(stage, f"it gave columns that it does not declare: {sorted(unknown)}; add them to its fields")
    for field in stage.fields:
        cell = columns.get(field.name)
        floating = pa.types.is_floating(unnest(field.type)[1])
        if cell is not None and floating and not np.isfinite(np.asarray(cell, dtype=np.float64)).all():
            return Rejected("not_finite", f"{field.name} has NaN or infinite values")
    return columns
