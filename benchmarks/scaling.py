"""What it costs to spread a run: ``python -m benchmarks.scaling`` (two idle cores, which Prefect's server shares).

``speedup_2``: encode and edit over aligned shards by 2 workers of one thread each, over 1, the median of some turns.
``per_shard_ms``: tasks that do nothing, by runner, after its start; ``child runs`` are those of the deployment over
finished shards, in batches, with their start.
``linear_r2``: tasks that do nothing for 250 to 2,000 shards, fitted by a line. ``noop_2000_s``: the whole command
``edit-dataset run`` over 2,000 finished shards of four stages, in a new process.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import print_result, services, timed
from gan_core.params import load_params
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.runs.run import SOURCE, Run, begin_run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage
from gan_core.storage.receipts import Receipt, content_key, statistics_path, write_receipt
from gan_core.storage.shards import shard_name
from gan_core.storage.urls import hash_file
from gan_core.toy.params import SampleParams
from gan_core.toy.sample import write_sample

QUICK: dict[str, Any] = {"tune.enabled": False}
STAGES = ("align", "encode", "edit")
SIZES = (250, 500, 1000, 2000)
RUNNERS = ("threads", "processes", "dask") if find_spec("prefect_dask") else ("threads", "processes")
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


def speed_up(folder: str, shards: int, rows: int, runner: str, rounds: int) -> float:
    """Return how many times faster 2 workers encode and edit than 1, in turns; all the runner does counts."""
    source = f"{folder}/source-{runner}"
    write_sample(source, SampleParams(rows=shards * rows, shards=shards))
    ratios = []
    for turn in range(rounds):
        one, two = (aligned_seconds(source, f"{folder}/{runner}-{turn}-{n}", n, runner) for n in (1, 2))
        print(f"{runner}: {shards} shards of {rows} in {one:.1f} s by 1 worker, in {two:.1f} s by 2", flush=True)
        ratios.append(one / two)
    return statistics.median(ratios)


def aligned_seconds(source: str, output: str, workers: int, runner: str) -> float:
    """Align a dataset, and return the seconds that a runner then takes to encode and edit it."""
    from benchmarks.spread import whole

    run = plan_run(source, output, overrides=QUICK | {"run.workers": workers, "run.runner": runner}).run
    run = replace(run, identities={stage: run.identities[stage] for stage in STAGES})
    begin_run(run)
    align = build_stage("align", run.params, source)
    for shard in run.shards:
        run_stage(align, shard, run.output)
    return timed(partial(whole, run))


def idle_seconds(shards: int, runner: str) -> float:
    """Return the seconds that so many tasks take which do nothing, when the runner has started."""
    from benchmarks.spread import idle

    params = load_params(overrides={"run.runner": runner, "run.workers": 2})
    jobs = [Run(params, "none", "none", {shard_name(i): 1 for i in range(n)}, {"nothing": {}}) for n in (2, shards)]
    start, seconds = idle(*jobs)
    print(f"{runner}: start {start:.1f} s, then {shards} tasks that do nothing in {seconds:.1f} s", flush=True)
    return seconds


def linearity(sizes: Sequence[int]) -> float:
    """Return the R² of a line through the seconds over the number of shards."""
    seconds = np.array([idle_seconds(size, "threads") for size in sizes])
    fitted = np.polyval(np.polyfit(sizes, seconds, 1), sizes)
    return float(1 - ((seconds - fitted) ** 2).sum() / ((seconds - seconds.mean()) ** 2).sum())


def small_run(folder: str) -> Run:
    """Make a run of 40 shards with one row each, and return it with its first good shard alone."""
    source = f"{folder}/few-source"
    write_sample(source, SampleParams(rows=40, shards=40))
    plan = plan_run(source, f"{folder}/few", overrides=QUICK)
    run_plain(plan)
    run = plan.run
    good = next(s for s in run.shards if run.require_receipt("measure", s).rows == {"ok": 1})
    return replace(run, rows={good: 1})


def copied_run(run: Run, folder: str, shards: int) -> Run:
    """Copy the one shard of a finished run so many times, each with keys and receipts of its own: a finished run."""
    rows = {shard_name(i): 1 for i in range(shards)}
    many = replace(run, source=f"{folder}/source", output=f"{folder}/run", rows=rows)
    for place in (many.source, *map(many.path, run.stages)):
        Path(place).mkdir(parents=True)
    (good,) = run.shards
    hashes: dict[str, dict[str, str]] = {shard: {} for shard in rows}
    for stage in (SOURCE, *run.stages):
        table = pq.read_table(run.shard(stage, good))
        receipt = run.require_receipt(stage, good)
        for shard in rows:
            target = many.shard(stage, shard)
            keys = pa.array([f"{shard}/{key}" for key in table["key"].to_pylist()])
            pq.write_table(table.set_column(table.schema.get_field_index("key"), "key", keys), target)
            hashes[shard][stage] = hash_file(target)
            if stage != SOURCE:
                write_receipt(target, copied_receipt(receipt, hashes[shard]))
                if receipt.statistics_sha256:
                    shutil.copyfile(statistics_path(run.shard(stage, good)), statistics_path(target))
    begin_run(many)
    return many


def copied_receipt(receipt: Receipt, hashes: dict[str, str]) -> Receipt:
    """Return a receipt for a copy of its shard, ``hashes`` being those of the copies by stage."""
    inputs = {name: hashes[name] for name in receipt.input_keys}
    key = content_key(receipt.stage, receipt.code_version, receipt.identity, inputs)
    own = {"key": key, "input_keys": inputs, "output_sha256": hashes[receipt.stage]}
    return receipt.model_copy(update=own)


def run_command(run: Run) -> None:
    """Run ``edit-dataset run`` in a process of its own."""
    command = [sys.executable, "-m", "flows.cli", "run", run.source, run.output, "--set", "tune.enabled=false"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def child_seconds(run: Run, size: int) -> float:
    """Return the seconds that child runs take over finished shards, in batches of ``size``."""
    from benchmarks.spread import children

    spreading = run.params.run.model_copy(update={"deployment": "edit-shards/shards", "shards_per_batch": size})
    spread = replace(run, params=run.params.model_copy(update={"run": spreading}))
    begin_run(spread)
    with worker():
        seconds = timed(lambda: children(spread))
    print(f"child runs: {len(run.shards)} finished shards in batches of {size} in {seconds:.1f} s", flush=True)
    return seconds


@contextmanager
def worker() -> Iterator[None]:
    """Serve the deployment of batches by a worker that takes one run at a time; killed when idle, it ends at once."""
    here = os.environ | {"PWD": os.getcwd(), "PREFECT_WORKER_QUERY_SECONDS": "2"}
    subprocess.run([*PREFECT, "work-pool", "create", "shards", "--type", "process"], env=here, capture_output=True)
    subprocess.run([*PREFECT, "deploy", "--name", "shards"], env=here, check=True, capture_output=True)
    command = [*PREFECT, "worker", "start", "--pool", "shards", "--limit", "1"]
    process = subprocess.Popen(command, env=here, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=8, help="to encode and edit")
    parser.add_argument("--rows", type=int, default=128, help="in each of these")
    parser.add_argument("--rounds", type=int, default=3, help="of 1 and 2 workers, of which the median counts")
    parser.add_argument("--runner", choices=RUNNERS, default="threads", help="that encodes and edits")
    parser.add_argument("--tasks", type=int, default=100, help="that do nothing, for each runner")
    parser.add_argument("--batch", type=int, default=8, help="shards of a child run")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of shards for the line")
    parser.add_argument("--finished", type=int, default=2000, help="shards of the run with nothing to do")
    options = parser.parse_args()
    with TemporaryDirectory() as folder, services(folder):
        faster = speed_up(folder, options.shards, options.rows, options.runner, options.rounds)
        costs = {name: 1000 * idle_seconds(options.tasks, name) / options.tasks for name in RUNNERS}
        r2 = linearity(options.sizes)
        few = small_run(folder)
        many = copied_run(few, f"{folder}/many", options.finished)
        print(f"first look at {options.finished} finished shards: {timed(lambda: run_command(many)):.1f} s", flush=True)
        noop = timed(lambda: run_command(many))
        some = copied_run(few, f"{folder}/some", 2 * options.batch)
        costs["child runs"] = 1000 * child_seconds(some, options.batch) / len(some.shards)
    print_result(speedup_2=faster, per_shard_ms=costs, linear_r2=r2, noop_2000_s=noop)
    print("goals: speed-up of at least 1.8", "met" if faster >= 1.8 else "MISSED", end=", ")
    print("nothing to do in under 20 s", "met" if noop < 20 else "MISSED")


if __name__ == "__main__":
    main()
