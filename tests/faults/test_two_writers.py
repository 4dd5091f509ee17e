"""Two runs over one folder: one writes a shard, the other is told who does; what is there is always whole."""

import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from gan_core.errors import DataError
from gan_core.rows import Rejected, Row
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import Stage
from gan_core.storage.receipts import Receipt, valid_receipt
from gan_core.storage.shards import ShardWriter, shard_name

SHARD = shard_name(0)
PATIENCE_S = 600.0


def _hold(workplace: Any, inside: Any, go_on: Any) -> None:
    stage = workplace.stage()
    original = stage.process

    def process(rows: Sequence[Row]) -> list[Row | Rejected]:
        inside.set()
        assert go_on.wait(PATIENCE_S)
        return original(rows)

    stage.process = process
    run_stage(stage, SHARD, workplace.output)
    os._exit(0)  # the exit hooks of the forked process belong to tests that ran before


def test_the_second_process_is_told_and_the_first_ends_well(workplace: Any) -> None:
    context = multiprocessing.get_context("fork")
    inside, go_on = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(workplace, inside, go_on))
    first.start()
    assert inside.wait(PATIENCE_S)
    with pytest.raises(DataError, match=rf"align/{SHARD} is being written by process {first.pid} on .*: wait"):
        run_stage(workplace.stage(), SHARD, workplace.output)
    go_on.set()
    first.join(PATIENCE_S)
    assert first.exitcode == 0 and workplace.starts() == 1
    assert run_stage(workplace.stage(), SHARD, workplace.output).reused


def test_the_lock_of_a_killed_writer_is_free(workplace: Any) -> None:
    context = multiprocessing.get_context("fork")
    inside, never = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(workplace, inside, never))
    first.start()
    assert inside.wait(PATIENCE_S)
    first.kill()
    first.join(PATIENCE_S)
    assert not run_stage(workplace.stage(), SHARD, workplace.output).reused


def test_of_many_threads_one_writes(workplace: Any, undisturbed: dict[str, bytes]) -> None:
    start = threading.Barrier(6)

    def attempt(_number: int) -> Receipt | DataError:
        stage = workplace.stage()
        start.wait()
        try:
            return run_stage(stage, SHARD, workplace.output)
        except DataError as error:
            return error

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(attempt, range(6)))
    made = [r for r in results if isinstance(r, Receipt) and not r.reused]
    assert len(made) == 1 and workplace.starts() == 1
    assert all("is being written by" in str(r) for r in results if isinstance(r, DataError))
    expected = {name: data for name, data in undisturbed.items() if SHARD in name}
    assert workplace.files() == expected


def test_writers_of_different_shards_do_not_meet(workplace: Any, undisturbed: dict[str, bytes]) -> None:
    shards = [shard_name(index) for index in range(3)]
    with ThreadPoolExecutor(3) as pool:
        receipts = list(pool.map(lambda shard: run_stage(workplace.stage(), shard, workplace.output), shards))
    assert not any(receipt.reused for receipt in receipts) and workplace.files() == undisturbed


class Writing(Stage):
    """Counts rows; ``meanwhile`` is called in the middle of the work."""

    name = "align"
    inputs = ("source",)
    fields = (pa.field("number", pa.int32()),)
    batch_size = 1

    def __init__(self, number: int, meanwhile: Any = None) -> None:
        self.source = "memory://race/source"
        self.number = number
        self.meanwhile = meanwhile

    def identity(self) -> dict[str, Any]:
        return {"number": self.number}

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        if self.meanwhile is not None:
            self.meanwhile()
        return [{"number": self.number} for _ in rows]


def test_in_a_bucket_the_last_commit_wins_and_is_whole() -> None:
    fsspec.filesystem("memory").store.clear()
    with ShardWriter(f"memory://race/source/{SHARD}", ()) as writer:
        writer.write([{"key": "a", "status": "ok"}])
    out = "memory://race/out"
    slow = Writing(1, meanwhile=lambda: run_stage(Writing(2), SHARD, out))
    receipt = run_stage(slow, SHARD, out)
    found, why = valid_receipt(f"{out}/align/{SHARD}")
    assert found == receipt and found.identity == {"number": 1} and why == ""
    assert not run_stage(Writing(2), SHARD, out).reused
