"""How much faster a flow is than the same calls one after the other: ``python -m benchmarks.pipeline``.

Two shards go through all stages, with random weights in the published layout, in three forms that are measured in turns
in one process with one torch thread a worker, as in the flow. ``flow``: a worker for each core, and the threads for
pictures that the flow gives them. ``beside``: one worker with a thread for each core that decodes and encodes beside
the computing. ``alone``: one worker, one call after the other. Medians count, and the bytes of all three are compared.
``speedup`` is how much longer ``alone`` takes than ``flow``, ``speedup_one_worker`` than ``beside``;
``most_speedup_one_worker`` is what threads beside one worker could bring at most: the whole against its computing.
After that the run without tuning is made once in each format of stored pictures.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.full_size import ARGUMENTS, import_models, settings
from benchmarks.harness import print_result
from gan_core.device import CPU
from gan_core.execution import RunParams
from gan_core.importers import import_dataset
from gan_core.precision import prepare_worker
from gan_core.recipes.base import plan_run, recipe_of
from gan_core.rows import Row
from gan_core.runs.overlap import count_threads
from gan_core.runs.run import Run
from gan_core.runs.run_stage import run_stage
from gan_core.storage.urls import hash_file

SHARDS = 2
ROWS = {False: {64: 96, 256: 8, 1024: 2}, True: {64: 24, 256: 2, 1024: 1}}
STEPS = {64: 10, 256: 2, 1024: 1}
"""A shard's rows without and with tuning, and its steps: few, as at 1024 px one core takes half a minute for a step."""
BATCH = {64: 32, 256: 4, 1024: 2}
FORMATS = ("png", "webp", "jpeg")
CORES = len(os.sched_getaffinity(0))
FORMS = {"flow": RunParams(workers=CORES), "beside": RunParams(workers=1), "alone": RunParams(workers=1, io_threads=0)}


class Worker:
    """The stages of a run, built once; ``busy`` is how many seconds they have computed."""

    def __init__(self, run: Run, threads: int) -> None:
        prepare_worker()
        self.run, self.busy = run, 0.0
        recipe = recipe_of(run)
        self.stages = [recipe.build_stage(name, run.params, run.source) for name in run.stages]
        for stage in self.stages:
            stage.io_threads = threads
            setattr(stage, "calculate", self._timed(stage.calculate))  # noqa: B010  (no method for mypy)

    def make(self, shard: str, output: str) -> None:
        """Take a shard through all stages."""
        for stage in self.stages:
            run_stage(stage, shard, output)

    def _timed(self, calculate: Callable[[Sequence[Row]], Any]) -> Callable[[Sequence[Row]], Iterator[Any]]:
        def timed(rows: Sequence[Row]) -> Iterator[Any]:
            begin = time.perf_counter()
            for made in calculate(rows):
                self.busy += time.perf_counter() - begin
                yield made
                begin = time.perf_counter()
            self.busy += time.perf_counter() - begin

        return timed


def write_photographs(folder: Path, rows: int, size: int) -> str:
    """Import ``rows`` JPEGs with some noise, a little larger than ``size``, and return the dataset's folder."""
    (folder / "files").mkdir(parents=True)
    for row in range(rows):
        stream = np.random.default_rng(row)
        coarse = Image.fromarray(stream.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size * 4 // 3, size + 40), Image.Resampling.BICUBIC), np.float32)
        noisy = np.clip(smooth + stream.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / "files" / f"{row:03}.jpg", quality=92)
    import_dataset(str(folder / "files"), str(folder / "photographs"), rows_per_shard=rows // SHARDS)
    return str(folder / "photographs")


def plan(folder: Path, models: dict[str, str], size: int, **more: Any) -> Run:
    """Plan the run over the pictures in ``folder``, which are aligned as FFHQ's script does."""
    overrides = settings(models, size, STEPS[size]) | {
        "run.batch_size": BATCH[size],
        "align.transform_size": None,
        "paste.enabled": False,
    }
    return plan_run(str(folder / "photographs"), str(folder / "run"), overrides=overrides | more).run


class Form:
    """One form of making a run, and the seconds of each round."""

    def __init__(self, run: Run, params: RunParams) -> None:
        self.workers = [Worker(run, count_threads(params, CPU)) for _ in range(params.workers)]
        self.shards = run.shards
        self.seconds: list[float] = []

    def make(self, output: Path) -> str:
        """Make the run, and return a line about it: cores are the processor time for each second."""
        begin, used = time.perf_counter(), time.process_time()
        idle = SimpleQueue[Worker]()
        for worker in self.workers:
            idle.put(worker)

        def make_one(shard: str) -> None:
            worker = idle.get()
            worker.make(shard, str(output))
            idle.put(worker)

        with ThreadPoolExecutor(len(self.workers), initializer=prepare_worker) as pool:
            list(pool.map(make_one, self.shards))
        self.seconds.append(time.perf_counter() - begin)
        cores = (time.process_time() - used) / self.seconds[-1]
        return f"{output.name} {self.seconds[-1]:.2f} s on {cores:.2f} cores, load {os.getloadavg()[0]:.1f}"

    @property
    def busy(self) -> float:
        """The share of the time in which a worker computes."""
        return sum(worker.busy for worker in self.workers) / len(self.workers) / sum(self.seconds)


def compare(folder: Path, run: Run, rounds: int) -> dict[str, Form]:
    """Make the run in all forms in turns."""
    forms = {name: Form(run, params) for name, params in FORMS.items()}
    for number in range(rounds):
        for name, form in forms.items():
            print("  " + form.make(folder / f"{name}-{number}"), flush=True)
        flow, beside, alone = (hashes(folder / f"{name}-{number}") for name in FORMS)
        assert flow == beside == alone, "the bytes differ"
    return forms


def hashes(output: Path) -> dict[str, str]:
    """The sha256 of each shard and its statistics, by path."""
    files = sorted([*output.rglob("*.parquet"), *output.rglob("*.npz")])
    return {str(file.relative_to(output)): hash_file(str(file)) for file in files}


def bytes_per_row(output: Path, run: Run) -> float:
    """The bytes of all shards of a run for each of its rows."""
    return sum(file.stat().st_size for file in output.rglob("*.parquet")) / sum(run.rows.values())


def formats(folder: Path, planned: Callable[..., Run]) -> dict[str, tuple[float, float]]:
    """Bytes and seconds a row of the run in each format."""
    found = {}
    for name in FORMATS:
        run = planned(**{"tune.enabled": False, "pictures.format": name})
        form = Form(run, FORMS["flow"])
        print("  " + form.make(folder / name), flush=True)
        found[name] = (bytes_per_row(folder / name, run), form.seconds[0] / sum(run.rows.values()))
    return found


def measure(folder: Path, size: int, rounds: int, result: dict[str, dict[str, float]]) -> None:
    """Measure one size, and add what was found to ``result``."""
    folder.mkdir()
    models = import_models(folder, size)
    for tuned in (False, True):
        part = folder / f"tuned-{tuned}"
        rows, name = ROWS[tuned][size] * SHARDS, f"{size} tuned" if tuned else str(size)
        write_photographs(part, rows, size)
        print(f"{size} px, {rows} rows, {'with' if tuned else 'without'} tuning", flush=True)
        planned = partial(plan, part, models, size)
        forms = compare(part, planned(**{"tune.enabled": tuned}), rounds)
        flow, beside, alone = (median(form.seconds) for form in forms.values())
        result["speedup"][name] = alone / flow
        result["speedup_one_worker"][name] = alone / beside
        result["most_speedup_one_worker"][name] = 1 / forms["alone"].busy
        result["rows_per_s"][name] = rows / flow
        result["busy_share"][name] = forms["flow"].busy
        if tuned:
            result["bytes_per_row"][name] = bytes_per_row(part / "flow-0", planned())
        else:
            for kind, (stored, spent) in formats(part, planned).items():
                result["bytes_per_row"][f"{size} {kind}"], result["s_per_row"][f"{size} {kind}"] = stored, spent


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", choices=ARGUMENTS, default=list(ARGUMENTS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    speeds = ("speedup", "speedup_one_worker", "most_speedup_one_worker", "rows_per_s")
    names = (*speeds, "busy_share", "bytes_per_row", "s_per_row")
    result: dict[str, dict[str, float]] = {name: {} for name in names}
    with TemporaryDirectory() as name:
        for size in options.sizes:
            measure(Path(name) / str(size), size, options.rounds, result)
    print_result(**result)


if __name__ == "__main__":
    main()
