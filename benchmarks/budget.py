"""Whether a budget is kept by the clock: ``python -m benchmarks.budget``.

The sample is encoded, the ways to invert are measured on it (``--rows``; ``--only-tuning`` leaves networks out), and a
run with ``invert.budget_s`` goes through the flow, with one worker. ``spent_by_clock`` is what the stages of encoding
and tuning took for each finished row, by their receipts; ``clock_over_budget`` should lie within 0.85 and 1.15.
``spent_by_table`` is the mean of the rows' ``spent_s``. The run is then made again in another folder, and once more
after one of its tuned shards was removed: ``same_bytes`` is 1 if all of their shards are equal. Run it on a quiet
machine, since receipts have the time of the clock.
"""

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness import print_result, services
from gan_core.inversion.allocation import write_table
from gan_core.inversion_trials import measure_table, ways_there
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.runs.run import Run, load_run
from gan_core.storage.shards import read_rows

TIMED = ("encode", "tune")
QUIET: dict[str, Any] = {"run.workers": 1, "run.io_threads": 0, "edits": [], "measure.metrics": ["mse"]}


def run_flow(source: str, output: str, overrides: dict[str, Any]) -> Run:
    """Make a run as a flow."""
    from flows.edit_dataset import edit_dataset

    edit_dataset(source, output, overrides=overrides)
    return load_run(output)


def make_table(source: str, folder: str, rows: int, only_tuning: bool) -> dict[str, Any]:
    """Encode the dataset, and measure ways to invert its rows; return what a run needs to follow the table."""
    table = f"{folder}/inversion.json"
    overrides = QUIET | {"models.inversion": table}
    run_plain(plan_run(source, f"{folder}/encoded", overrides=overrides | {"tune.enabled": False}))
    run = load_run(f"{folder}/encoded")
    also = [] if only_tuning else ways_there(run.params)
    write_table(table, measure_table(run, rows, print, also))
    return overrides


def seconds_by_clock(run: Run, rows: int) -> float:
    """Return the seconds of ``TIMED`` for each of ``rows``, by their receipts."""
    receipts = [run.require_receipt(stage, shard) for stage in TIMED for shard in run.shards]
    return sum(receipt.seconds for receipt in receipts) / rows


def tuned_rows(run: Run) -> list[dict[str, Any]]:
    """Return the finished rows of a run after tuning."""
    rows = [row for shard in run.stage_shards("tune") for part in read_rows(shard) for row in part]
    return [row for row in rows if row["status"] == "ok"]


def hashes(run: Run) -> list[str]:
    """Return the hashes of all shards of a run."""
    return [run.require_receipt(s, shard).output_sha256 for s in run.stages for shard in run.shards]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="data/sample")
    parser.add_argument("--budget", type=float, default=0.1)
    parser.add_argument("--rows", type=int, default=48, help="rows that the table is measured on")
    parser.add_argument("--only-tuning", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory() as folder, services(folder):
        overrides = make_table(options.source, folder, options.rows, options.only_tuning)
        overrides |= {"invert.budget_s": options.budget}
        first = run_flow(options.source, f"{folder}/first", overrides)
        again = run_flow(options.source, f"{folder}/again", overrides)
        made = hashes(first)
        for path in Path(f"{folder}/first/tune").glob(f"{first.shards[0]}*"):
            path.unlink()
        resumed = run_flow(options.source, f"{folder}/first", overrides)
        rows = tuned_rows(again)
        clock = seconds_by_clock(again, len(rows))
        ways = sorted({row.get("inverted_by") or "pti" for row in rows})
        print(f"{len(rows)} rows, ways {', '.join(ways)}", flush=True)
        print_result(
            budget=options.budget,
            spent_by_clock=clock,
            spent_by_table=statistics.fmean(row["spent_s"] for row in rows),
            clock_over_budget=clock / options.budget,
            lpips=statistics.fmean(row["loss_perceptual"] for row in rows),
            same_bytes=float(made == hashes(again) == hashes(resumed)),
        )


if __name__ == "__main__":
    main()
