"""Train what one training stage of ``dvc.yaml`` makes: ``python -m tasks.train train-encoder@psp``.

It reads ``toy.yaml`` and ``params.yaml``, goes on where it was stopped, and is logged to MLflow; DVC runs it.
"""

import argparse
import logging
import signal
import sys

from gan_core.errors import UserError
from gan_core.params import Params, load_params
from gan_core.precision import keep_freed_memory
from gan_core.toy.params import ToyParams, load_toy_params
from gan_core.toy.trainings import TRAININGS, find_training
from tasks.training_run import TrainingRun


def train(stage: str, toy: ToyParams, params: Params) -> None:
    """Train what ``stage`` makes, or go on where it was stopped; raises ``UserError``."""
    training = find_training(stage)
    with TrainingRun(training.name, training.section(toy), params.track) as run:
        training.run(toy, params, run)


def main() -> None:
    """Train the named stage with the parameters of this folder; SIGTERM ends it as Ctrl-C does, and MLflow is told."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", metavar="STAGE", help=", ".join(TRAININGS))
    stage = parser.parse_args().stage
    keep_freed_memory()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        train(stage, load_toy_params(), load_params())
    except UserError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
