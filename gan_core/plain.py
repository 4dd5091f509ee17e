"""The whole chain as a plain loop, with no scheduler: what ``dvc repro`` runs, and what the flow is measured against.

``python -m gan_core.plain data/sample runs/repro --metrics metrics.json --plot pictures.json``
"""

import argparse
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from gan_core.errors import UserError
from gan_core.metrics.base import ENCODED, TUNED
from gan_core.metrics.names import find_score
from gan_core.precision import prepare_worker
from gan_core.recipes.base import Plan, plan_run, recipe_of
from gan_core.report.finish import Result, finish_run
from gan_core.runs.run import Run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import Stage
from gan_core.runs.summary import GATES
from gan_core.stopping import STOPPED_EXIT_CODE, Stopped, stoppable
from gan_core.storage.atomic import write_bytes

HEADLINE = ("psnr", "identity", "lpips", "fid")


def run_plain(plan: Plan) -> dict[str, float]:
    """Take every shard through every stage on ``run.workers`` threads, one torch thread each; return the metrics.

    Finished shards are skipped by their receipts. The first error ends the run; what is finished stays. Raises
    ``DataError`` if another command makes the run, and ``Stopped`` between two batches if the work is asked to stop.
    """
    with plan.held():
        run = plan.begin()
        own = threading.local()
        with ThreadPoolExecutor(run.params.run.workers, initializer=_set_up, initargs=(run, own)) as workers:
            results = list(workers.map(_chain(run, own), run.shards))
        return finish_run(run, chain.from_iterable(results))


def by_picture(metrics: dict[str, float]) -> list[dict[str, str | float]]:
    """Turn ``<metric>/<picture>: value`` into one record a picture, with what all have, as ``dvc plots`` wants it.

    The numbers of gates are of no picture, and left out.
    """
    records: dict[str, dict[str, str | float]] = {}
    for name, value in metrics.items():
        if name.startswith(f"{GATES}/"):
            continue
        metric, _, picture = name.rpartition("/")
        records.setdefault(picture, {"picture": picture})[metric] = value
    shared = set.intersection(*map(set, records.values())) if records else set()
    return [{name: value for name, value in record.items() if name in shared} for record in records.values()]


def headline(metrics: dict[str, float]) -> dict[str, float]:
    """Pick the few numbers that fit on a screen: PSNR as encoded, and the scores of the last reconstruction."""
    scores = [find_score(name) for name in metrics if not name.startswith(f"{GATES}/")]
    last = TUNED if any(score.picture == TUNED for score in scores) else ENCODED
    wanted = dict.fromkeys([("psnr", ENCODED), *((metric, last) for metric in HEADLINE)])
    found = [score.name for pair in wanted for score in scores if (score.metric, score.picture) == pair]
    return {name: metrics[name] for name in found}


def _set_up(run: Run, own: threading.local) -> None:
    prepare_worker()
    recipe = recipe_of(run)
    own.stages = [recipe.build_stage(name, run.params, run.source) for name in run.stages]


def _chain(run: Run, own: threading.local) -> Callable[[str], list[Result]]:
    def through(shard: str) -> list[Result]:
        stages: list[Stage] = own.stages
        return [(stage.name, shard, run_stage(stage, shard, run.output).output_sha256) for stage in stages]

    return through


def main(arguments: list[str] | None = None) -> None:
    """Run the chain of ``params.yaml`` and write its metrics where asked.

    A mistake in the input, or another command that makes the run, is one line on stderr and exit code 2; Ctrl-C is 130.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("output")
    parser.add_argument("--metrics", type=Path, help="JSON file for the metrics")
    parser.add_argument("--headline", type=Path, help="JSON file for the few numbers that `dvc metrics show` prints")
    parser.add_argument("--plot", type=Path, help="JSON file for the same numbers, one record a picture")
    options = parser.parse_args(arguments)
    try:
        with stoppable():
            metrics = run_plain(plan_run(options.source, options.output, update=True))
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    except Stopped as stopped:
        parser.exit(STOPPED_EXIT_CODE, f"{stopped}\n")
    written = {options.metrics: metrics, options.headline: headline(metrics), options.plot: by_picture(metrics)}
    for path, content in written.items():
        if path is not None:
            write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
