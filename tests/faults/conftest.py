import gc
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gan_core.rows import Rejected, Row
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import Stage
from gan_core.storage.atomic import HashingFile
from gan_core.storage.images import encode_png, image_value
from gan_core.storage.receipts import Receipt
from gan_core.storage.shards import IMAGE, ShardWriter, latent_type, shard_name

SHARDS = [shard_name(index) for index in range(3)]
ROWS = 8


class Mirroring(Stage):
    """A small stage with an image, a latent, a rejection and statistics; it notes every start of a shard in ``log``."""

    name = "align"
    inputs = ("source",)
    fields = (pa.field("image", IMAGE), pa.field("latent", latent_type(2, 3)))
    batch_size = 3

    def __init__(self, source: Path, log: Path) -> None:
        self.source = str(source)
        self.log = log
        self.sum = np.zeros(3)

    def identity(self) -> dict[str, Any]:
        return {"size": 64}

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        if rows[0]["key"].endswith("/0"):
            with self.log.open("a") as log:
                log.write(f"{rows[0]['key']}\n")
        results: list[Row | Rejected] = [self.one(row) for row in rows]
        self.sum += len(rows)
        return results

    def one(self, row: Row) -> Row | Rejected:
        if row["key"].endswith("/5"):
            return Rejected("no_face", "none found")
        return {"image": row["image"], "latent": np.full((2, 3), len(row["image"]["bytes"]))}

    def statistics(self) -> dict[str, np.ndarray]:
        total, self.sum = self.sum, np.zeros(3)
        return {"sum": total}


class Workplace:
    """A source of three shards, an output folder, and the stage between them."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "out"
        self.source = folder / "source"
        self.log = folder / "log"
        self.log.touch()
        random = np.random.default_rng(0)
        for shard in SHARDS:
            with ShardWriter(self.source / shard, (pa.field("image", IMAGE),)) as writer:
                for i in range(ROWS):
                    png = encode_png(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
                    row: Row = {"key": f"{shard}/{i}", "status": "ok", "reason": "", "stage": "import"}
                    writer.write([row | {"image": image_value(png, f"{i}.png")}])

    def stage(self) -> Mirroring:
        return Mirroring(self.source, self.log)

    def run(self) -> list[Receipt]:
        return self.run_with(self.stage())

    def run_with(self, stage: Stage) -> list[Receipt]:
        return [run_stage(stage, shard, self.output) for shard in SHARDS]

    def clear(self) -> None:
        """Forget all that was made."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.log.write_text("")

    def starts(self) -> int:
        """How many times a shard was begun, by whichever process."""
        return len(self.log.read_text().splitlines())

    def files(self) -> dict[str, bytes]:
        """All files of the output but locks that the dead have left; receipts without their timings."""
        paths = (path for path in sorted(self.output.rglob("*")) if path.is_file() and path.suffix != ".lock")
        found = {str(path.relative_to(self.output)): path for path in paths}
        return {name: b"" if name.endswith(".receipt.json") else path.read_bytes() for name, path in found.items()}


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture
def undisturbed(workplace: Workplace) -> dict[str, bytes]:
    """The files that the work makes when nothing is in its way."""
    workplace.run()
    files = workplace.files()
    workplace.clear()
    return files


class Steps:
    """Counts the moments at which something could go wrong, and does ``fault`` at number ``at``."""

    def __init__(self, at: int, fault: Callable[[], None]) -> None:
        self.at = at
        self.fault = fault
        self.count = 0

    def take(self) -> None:
        self.count += 1
        if self.count == self.at + 1:
            self.fault()


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def instrumented(steps: Steps) -> Iterator[None]:
    """Take a step before and after every rename, and before every write, fsync, lock removal and batch.

    A Parquet writer that an error left behind writes once more when it is collected, whenever that is, to a file that
    ignores it: no step.
    """
    write = HashingFile.write

    def written(file: HashingFile, data: Any) -> int:
        if not file._discarded:
            steps.take()
        return write(file, data)

    def before(function: Callable[..., Any], also_after: bool = False) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            steps.take()
            result = function(*args, **kwargs)
            if also_after:
                steps.take()
            return result

        return wrapped

    gc.collect()  # a writer that an earlier fault left open would take steps when it is closed, and swallow the fault
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", before(os.replace, also_after=True))
        patch.setattr(os, "fsync", before(os.fsync))
        patch.setattr(HashingFile, "write", written)
        patch.setattr(Mirroring, "process", before(Mirroring.process))
        patch.setattr(Path, "unlink", before(Path.unlink))
        yield


def _run_until(work: Callable[[], object], at: int) -> None:
    with instrumented(Steps(at, kill_self)):
        work()
    os._exit(0)  # the exit hooks of the forked process belong to tests that ran before


@pytest.fixture
def kill_at() -> Callable[[Callable[[], object], int], bool]:
    """Do ``work`` in a forked process that is killed with SIGKILL at a step; say whether it came that far."""

    def run(work: Callable[[], object], at: int) -> bool:
        child = multiprocessing.get_context("fork").Process(target=_run_until, args=(work, at))
        child.start()
        child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        return child.exitcode != 0

    return run


@pytest.fixture
def fail_at() -> Callable[[Callable[[], object], int, BaseException], bool]:
    """Do ``work`` here, raising an error at a step; say whether it came that far (the error passes through)."""

    def run(work: Callable[[], object], at: int, error: BaseException) -> bool:
        def fault() -> None:
            raise error

        steps = Steps(at, fault)
        with instrumented(steps):
            work()
        return steps.count > at

    return run
