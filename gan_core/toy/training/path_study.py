"""How paths of the project's own generators get better with moves.

``python -m gan_core.toy.training.path_study digits`` reads ``study_digit_paths`` of ``toy.yaml`` (``portraits``:
``study_paths``), goes on where it was stopped, and writes a row for each method, seed and number of moves.
``--workers`` is how many trainings go on beside each other, a core each.
"""

import argparse
import logging
from pathlib import Path

from gan_core.device import compute_on
from gan_core.errors import UserError
from gan_core.judges.scorers import Scorers, load_scorers
from gan_core.loading import load_generator
from gan_core.params import Params, load_params
from gan_core.precision import keep_freed_memory
from gan_core.toy.digits import digit_scorers, load_digits
from gan_core.toy.params import ToyParams, load_toy_params
from gan_core.toy.training.paths import METHODS
from gan_core.toy.training.sngan import TARGET as DIGITS_GENERATOR
from gan_core.training.log import FOLDER, SCORES, TrainingLog
from gan_core.training.path_study import PathStudy

TARGETS = {"digits": "study-digit-paths", "portraits": "study-paths"}


def path_study(world: str, toy: ToyParams, params: Params) -> PathStudy:
    """Return the study of ``digits`` or ``portraits``."""
    if world == "digits":
        generator = load_generator(DIGITS_GENERATOR)
        scorers: Scorers = digit_scorers(load_digits(generator.model.size))
        return PathStudy(toy.study_digit_paths, generator.model, generator.sha256, scorers, METHODS)
    generator = load_generator(params.models.generator)
    return PathStudy(toy.study_paths, generator.model, generator.sha256, load_scorers(params.models), METHODS)


def run_study(world: str, toy: ToyParams, params: Params, workers: int = 1) -> Path:
    """Run the study, or go on with it, with so many trainings beside each other; return the file of its rows."""
    folder, target = FOLDER / TARGETS[world], SCORES / f"{TARGETS[world]}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with compute_on(params.run.device):
        path_study(world, toy, params).run(folder, target, lambda name: TrainingLog(name, folder), workers)
    return target


def main() -> None:
    """Run the study with the parameters of this folder."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("world", choices=list(TARGETS))
    parser.add_argument("--workers", type=int, default=1, help="trainings beside each other (default 1)")
    options = parser.parse_args()
    keep_freed_memory()
    try:
        rows = run_study(options.world, load_toy_params(), load_params(), options.workers)
    except UserError as error:
        parser.error(str(error))
    logging.getLogger(__name__).info("measured: %s", rows)


if __name__ == "__main__":
    main()
