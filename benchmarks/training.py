"""What a move of the trainings of paths costs: ``python -m benchmarks.training``.

By world and method, in processor time of one thread: the settings of the paths that the project keeps (``train_paths``
and ``train_digit_paths`` in ``toy.yaml``) against those of the long trainings (``study_paths``, ``study_digit_paths``),
in turns. ``moves_per_s`` and ``kept_moves_per_s`` are the medians over the rounds, ``speedups`` their ratios.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.harness import print_result
from gan_core.params import load_params
from gan_core.precision import prepare_worker
from gan_core.toy.params import load_toy_params
from gan_core.toy.training.path_study import TARGETS, path_study
from gan_core.training.drawing import Drawing
from gan_core.training.params import PathsParams
from gan_core.training.path_study import PathStudy
from gan_core.training.paths import PathState, draw_moves, train_step

MOVES = 256
"""Moves that are timed at a time, at least."""


def stepper(study: PathStudy, method: str, params: PathsParams) -> Callable[[], None]:
    """Return a function that makes at least ``MOVES`` moves of training."""
    state = PathState.create(study.models[method], params, study.generator, study.generator_sha256)
    state.place(training=True)
    draw = Drawing(study.generator, params.space, params.precision)
    stream = torch.Generator().manual_seed(0)

    def steps() -> None:
        for _ in range(-(-MOVES // params.batch_size)):
            train_step(state, params, draw, draw_moves(state.paths, params, study.generator, stream))

    return steps


def moves_per_second(steps: Callable[[], None], batch: int) -> float:
    """Return how many moves a call of ``steps`` makes for each second of the processor."""
    started = time.process_time()
    steps()
    return -(-MOVES // batch) * batch / (time.process_time() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    prepare_worker()
    toy, params = load_toy_params(), load_params()
    kept = {"digits": toy.train_digit_paths, "portraits": toy.train_paths}
    found: dict[str, dict[str, float]] = {"kept_moves_per_s": {}, "moves_per_s": {}, "speedups": {}}
    for world in options.worlds:
        study = path_study(world, toy, params)
        for method in study.params.methods:
            pair = [(stepper(study, method, each), each.batch_size) for each in (kept[world], study.params.paths)]
            for steps, _ in pair:
                steps()
            rounds = [[moves_per_second(*each) for each in pair] for _ in range(options.rounds)]
            before, after = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(f"{world}, {method}: {before:.0f} moves/s as kept, {after:.0f} in a study", flush=True)
            for key, value in zip(found, (before, after, after / before), strict=True):
                found[key][f"{world}_{method}"] = value
    print_result(**found)


if __name__ == "__main__":
    main()
