"""What a move of the trainings of paths costs: ``python -m benchmarks.training``.

By world and method, in processor time of one thread: the settings of the paths that the project keeps (``train_paths``
and ``train_digit_paths`` in ``toy.yaml``; it keeps none of shapes, so the latter's) against those of the long trainings
(``study_paths``, ``study_digit_paths``, ``study_shape_paths``), in turns. ``moves_per_s`` and ``kept_moves_per_s`` are
the medians over the rounds, ``speedups`` their ratios.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.harness import print_result
from gan_core.params import load_params
from gan_core.precision import prepare_worker
from gan_core.toy.params import SHAPE_PATHS, load_toy_params
from gan_core.toy.training.path_study import TARGETS, path_study
from gan_core.training.drawing import Drawing
from gan_core.training.params import PathsParams
from gan_core.training.path_study import PathStudy
from gan_core.training.paths import PathState, draw_moves, train_step

MOVES = {"digits": 512, "portraits": 64, "shapes": 512}
"""Moves that are timed at a time, at least: a second or two."""


def stepper(study: PathStudy, method: str, params: PathsParams, moves: int) -> Callable[[], float]:
    """Return a function that makes at least so many moves, and returns how many a second of the processor."""
    state = PathState.create(study.models[method], params, study.generator, study.generator_sha256)
    state.place(training=True)
    draw = Drawing(study.generator, params.space, params.precision, params.drawn_size)
    stream = torch.Generator().manual_seed(0)

    count = -(-moves // params.batch_size)

    def steps() -> float:
        started = time.process_time()
        for _ in range(count):
            train_step(state, params, draw, draw_moves(state.paths, params, study.generator, stream))
        return count * params.batch_size / (time.process_time() - started)

    return steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    prepare_worker()
    toy, params = load_toy_params(), load_params()
    kept = {"digits": toy.train_digit_paths, "portraits": toy.train_paths, "shapes": SHAPE_PATHS}
    found: dict[str, dict[str, float]] = {"kept_moves_per_s": {}, "moves_per_s": {}, "speedups": {}}
    for world in options.worlds:
        study = path_study(world, toy, params)
        for method in study.params.methods:
            pair = [stepper(study, method, each, MOVES[world]) for each in (kept[world], study.params.paths)]
            for steps in pair:
                steps()
            rounds = [[steps() for steps in pair] for _ in range(options.rounds)]
            before, after = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(f"{world}, {method}: {before:.0f} moves/s as kept, {after:.0f} in a study", flush=True)
            for key, value in zip(found, (before, after, after / before), strict=True):
                found[key][f"{world}_{method}"] = value
    print_result(**found)


if __name__ == "__main__":
    main()
