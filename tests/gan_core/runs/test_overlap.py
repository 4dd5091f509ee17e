"""The three steps of a stage: beside each other, in the same bytes, bounded, and with each row's own faults."""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gan_core.execution import RunParams
from gan_core.rows import Rejected, Row
from gan_core.runs.overlap import count_threads
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import Stage
from gan_core.stopping import Stopped, forget_stop, request_stop
from gan_core.storage.images import ImageError
from gan_core.storage.receipts import Receipt, read_statistics, valid_receipt
from gan_core.storage.shards import ShardWriter, read_rows, shard_name
from gan_core.storage.urls import exists, join_url

SHARD = shard_name(0)
PATIENCE_S = 60.0


class Halving(Stage):
    """Halves a value in three steps, each of which rejects a row of its own."""

    name = "align"
    inputs = ("source",)
    fields = (pa.field("half", pa.float32()),)

    def __init__(self, source: str, batch_size: int = 4, threads: int = 2) -> None:
        self.source, self.batch_size, self.io_threads = source, batch_size, threads
        self.total = 0.0

    def identity(self) -> dict[str, Any]:
        return {}

    def load(self, row: Row) -> Row | Rejected:
        if row["value"] == 3:
            raise ImageError("truncated", "cut")
        return row | {"loaded": row["value"] / 4}

    def calculate(self, rows: Sequence[Row]) -> Iterator[Any]:
        yield from (Rejected("odd", "not this") if row["value"] == 5 else row["loaded"] for row in rows)
        self.total += sum(row["value"] for row in rows)

    def store(self, row: Row, made: Any) -> Row | Rejected:
        if row["value"] == 6:
            return Rejected("late", "at the end")
        return super().store(row, {"half": made * 2} | ({"reason": "seven: it is"} if row["value"] == 7 else {}))

    def statistics(self) -> dict[str, np.ndarray]:
        total, self.total = self.total, 0.0
        return {"sum": np.array(total)}


@pytest.fixture
def source(tmp_path: Path) -> str:
    with ShardWriter(tmp_path / "src" / SHARD, (pa.field("value", pa.float32()),)) as writer:
        bad = {"status": "unreadable", "reason": "why"}
        rows = [{"key": f"k{i}", "status": "ok", "reason": "", "stage": "import", "value": float(i)} for i in range(14)]
        writer.write([row | (bad if i == 9 else {}) for i, row in enumerate(rows)])
    return str(tmp_path / "src")


def run(stage: Stage, folder: Path) -> Receipt:
    return run_stage(stage, SHARD, folder)


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 3, 40])
def test_the_bytes_are_those_of_one_after_the_other(source: str, tmp_path: Path, threads: int, batch_size: int) -> None:
    run(alone := Halving(source, 4, 0), tmp_path / "a")
    receipt = run(Halving(source, batch_size, threads), tmp_path / "b")
    assert receipt.rows == {"late": 1, "odd": 1, "ok": 10, "truncated": 1, "unreadable": 1}
    assert receipt.flags == {"seven": 1}
    kept, _ = valid_receipt(join_url(tmp_path / "a", alone.name, SHARD))
    assert kept and kept.key == receipt.key and kept.output_sha256 == receipt.output_sha256
    assert read_statistics(join_url(tmp_path / "b", alone.name, SHARD))["sum"] == sum(range(14)) - 3 - 9
    rows = [row for part in read_rows(join_url(tmp_path / "b", alone.name, SHARD)) for row in part]
    assert [rows[i]["reason"] for i in (3, 5, 6, 9)] == ["cut", "not this", "at the end", "why"]
    assert [row["half"] for row in rows[:3]] == [0, 0.5, 1]


class Meeting(Halving):
    """Goes on with a batch only when the next is loaded, the one before stored, and its own first row as well."""

    def __init__(self, source: str) -> None:
        super().__init__(source, batch_size=2, threads=2)
        self.seen: dict[tuple[str, float], threading.Event] = {}
        self.names: set[str] = set()

    def event(self, step: str, value: float) -> threading.Event:
        return self.seen.setdefault((step, value), threading.Event())

    def load(self, row: Row) -> Row | Rejected:
        self.event("loaded", row["value"]).set()
        self.names.add(threading.current_thread().name)
        return super().load(row)

    def calculate(self, rows: Sequence[Row]) -> Iterator[Any]:
        first = rows[0]["value"]
        if first == 0:
            assert self.event("loaded", 2.0).wait(PATIENCE_S)
        if first == 10:
            assert self.event("stored", 8.0).wait(PATIENCE_S)
        yield rows[0]["loaded"]
        if first == 12:
            assert self.event("stored", 12.0).wait(PATIENCE_S)
        yield from (row["loaded"] for row in rows[1:])

    def store(self, row: Row, made: Any) -> Row | Rejected:
        self.event("stored", row["value"]).set()
        return super().store(row, made)


def test_the_next_batch_is_loaded_and_the_last_stored_while_one_is_calculated(source: str, tmp_path: Path) -> None:
    stage = Meeting(source)
    before = threading.active_count()
    assert run(stage, tmp_path / "out").rows["ok"] == 11
    assert threading.current_thread().name not in stage.names and threading.active_count() == before


class Counting(Halving):
    """Notes how many rows were loaded, and how many were not stored, when a batch is calculated."""

    def __init__(self, source: str, threads: int) -> None:
        super().__init__(source, batch_size=2, threads=threads)
        self.loaded: list[str] = []
        self.begun = self.most_ahead = 0

    def load(self, row: Row) -> Row | Rejected:
        self.loaded.append(row["key"])
        return row | {"loaded": row["value"] / 4}

    def calculate(self, rows: Sequence[Row]) -> Iterator[Any]:
        self.begun += len(rows)
        if self.begun == 2:
            threading.Event().wait(0.05)  # time for the reader to come as far as it may
        self.most_ahead = max(self.most_ahead, len(self.loaded) - self.begun)
        yield from (row["loaded"] for row in rows)


@pytest.mark.parametrize(("threads", "ahead"), [(0, 0), (1, 2), (2, 2), (3, 4)])
def test_few_rows_are_in_memory_at_once(source: str, tmp_path: Path, threads: int, ahead: int) -> None:
    stage = Counting(source, threads)
    run(stage, tmp_path / "out")
    assert len(stage.loaded) == 13 and stage.most_ahead <= ahead


@pytest.mark.parametrize("step", ["load", "calculate", "store"])
@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_of_any_step_ends_the_stage_and_leaves_nothing(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, threads: int
) -> None:
    def fail(*_: object) -> None:
        raise ConnectionError("the store is away")

    stage = Halving(source, 2, threads)
    monkeypatch.setattr(stage, step, fail)
    before = threading.active_count()
    with pytest.raises(ConnectionError, match="the store is away"):
        run(stage, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.parquet")) and threading.active_count() == before


@pytest.mark.parametrize("step", ["load", "store"])
def test_a_row_that_finds_no_memory_is_tried_again_and_then_recorded(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stage, tries = Halving(source, 2, 2), {2.0: 0, 8.0: 0}
    original = getattr(stage, step)

    def short_of_memory(row: Row, *given: Any) -> Row | Rejected:
        if row["value"] in tries:
            tries[row["value"]] += 1
            if row["value"] == 8 or tries[2.0] == 1:
                raise MemoryError
        found: Row | Rejected = original(row, *given)
        return found

    monkeypatch.setattr(stage, step, short_of_memory)
    receipt = run(stage, tmp_path / "out")
    assert receipt.rows["oom"] == 1 and receipt.rows["ok"] == 9 and tries == {2.0: 2, 8.0: 2}


def test_a_stop_ends_the_threads_and_leaves_nothing(source: str, tmp_path: Path) -> None:
    calls: list[int] = []

    def progress(rows: int) -> None:
        calls.append(rows)
        request_stop()

    before = threading.active_count()
    try:
        with pytest.raises(Stopped):
            run_stage(Halving(source, 2, 2), SHARD, tmp_path / "out", progress)
    finally:
        forget_stop()
    assert calls == [2] and not exists(tmp_path / "out" / "align" / SHARD) and threading.active_count() == before


class OldWay(Halving):
    """Derived from a stage with three steps, but with a ``process`` of its own."""

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        made = super().process([row for row in rows if row["value"] != 3])
        return [*made, *(Rejected("three", "no") for row in rows if row["value"] == 3)]


def test_a_process_of_its_own_is_all_that_a_derived_stage_does(source: str, tmp_path: Path) -> None:
    receipt = run(OldWay(source, 1), tmp_path / "out")
    assert receipt.rows == {"late": 1, "odd": 1, "ok": 10, "three": 1, "unreadable": 1}


def test_a_stage_without_any_step_is_told_what_it_lacks() -> None:
    class Lazy(Stage):
        name = "lazy"

        def identity(self) -> dict[str, Any]:
            return {}

    assert Lazy.__abstractmethods__ == {"calculate"}


@pytest.mark.parametrize(
    ("given", "kind", "threads"),
    [
        ({"io_threads": 7, "workers": 9}, "cpu", 7),
        ({"io_threads": 0}, "cuda", 0),
        ({"workers": 1}, "cpu", 4),
        ({"workers": 3}, "cpu", 1),
        ({"workers": 4}, "cpu", 0),
        ({"workers": 4}, "cuda", 1),
        ({"workers": 2}, "cuda", 2),
    ],
)
def test_the_threads_are_a_share_of_the_cores_unless_computing_takes_them(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, int], kind: str, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    assert count_threads(RunParams(**given), kind) == threads  # type: ignore[arg-type]
