"""How much time the flow takes over a plain loop of the same library calls: ``python -m benchmarks.overhead``.

8 shards of 128 images, without tuning. Both make the whole run (checks, stages, dataset metrics, report) on
``run.workers`` threads; the flow also keeps Prefect's records and logs to MLflow. What is paid once, the server's
start, imports and a first small run, is reported apart. The best of several rounds counts.
"""

import argparse
import time
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import print_result, services
from gan_core.params import SampleParams
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.toy.sample import write_sample

OVERRIDES: dict[str, Any] = {"tune.enabled": False}
Run = Callable[[str, str], object]


def run_loop(source: str, output: str) -> None:
    """Make the run without Prefect and MLflow."""
    run_plain(plan_run(source, output, overrides=OVERRIDES))


def run_flow(source: str, output: str) -> None:
    """Make the run as a flow."""
    from flows.edit_dataset import edit_dataset

    edit_dataset(source, output, overrides=OVERRIDES)


def timed(run: Run, source: str, output: str) -> float:
    """Return the seconds that a run takes."""
    begin = time.perf_counter()
    run(source, output)
    return time.perf_counter() - begin


def measure(folder: str, shards: int, rows: int, rounds: int) -> tuple[float, float]:
    """Return the best seconds of the loop and of the flow."""
    source = f"{folder}/source"
    write_sample(source, SampleParams(rows=shards * rows, shards=shards))
    best: dict[Run, float] = {}
    for number in range(rounds):
        for run in (run_loop, run_flow):
            seconds = timed(run, source, f"{folder}/{run.__name__}-{number}")
            best[run] = min(seconds, best.get(run, seconds))
            print(f"round {number}: {run.__name__} {seconds:.1f} s", flush=True)
    return best[run_loop], best[run_flow]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--rows", type=int, default=128, help="in each shard")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    begin = time.perf_counter()
    with TemporaryDirectory() as folder, services(folder):
        write_sample(f"{folder}/few", SampleParams(rows=32, shards=2))
        for run in (run_loop, run_flow):
            run(f"{folder}/few", f"{folder}/first-{run.__name__}")
        start_up = time.perf_counter() - begin
        print(f"start-up: server, imports and a first run of each kind in {start_up:.1f} s", flush=True)
        loop, flow = measure(folder, options.shards, options.rows, options.rounds)
    print(f"{options.shards} shards of {options.rows}: loop {loop:.1f} s, flow {flow:.1f} s ({flow - loop:+.1f} s)")
    print_result(wall_ratio=flow / loop, loop_s=loop, flow_s=flow, start_up_s=start_up)


if __name__ == "__main__":
    main()
