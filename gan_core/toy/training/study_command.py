"""How studies are run from the command line, with the parameters of the current folder."""

import argparse
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from gan_core.device import compute_on
from gan_core.errors import UserError
from gan_core.params import Params, load_params
from gan_core.precision import keep_freed_memory
from gan_core.toy.params import ToyParams, load_toy_params
from gan_core.training.log import FOLDER, SCORES, TrainingLog
from gan_core.training.study import Reports


class Runs(Protocol):
    """A study that goes on in a folder and writes its rows into a file."""

    def run(self, folder: Path, target: Path, report: Reports, workers: int = 1) -> Any:
        """Train and measure, or go on."""


Make = Callable[[ToyParams, Params], Runs]


def run_study(name: str, make: Make, toy: ToyParams, params: Params, workers: int = 1) -> Path:
    """Run a study, or go on with it, with so many trainings beside each other; return the file of its rows."""
    folder, target = FOLDER / name, SCORES / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with compute_on(params.run.device):
        make(toy, params).run(folder, target, lambda training: TrainingLog(training, folder), workers)
    return target


def run_command(description: str, studies: Mapping[str, tuple[str, Make]]) -> None:
    """Run the study that the command line chooses of ``studies``, each a name and how it is made; or the only one."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    if len(studies) > 1:
        parser.add_argument("world", choices=list(studies))
    parser.add_argument("--workers", type=int, default=1, help="trainings beside each other (default 1)")
    options = parser.parse_args()
    keep_freed_memory()
    name, make = studies[getattr(options, "world", next(iter(studies)))]
    try:
        rows = run_study(name, make, load_toy_params(), load_params(), options.workers)
    except UserError as error:
        parser.error(str(error))
    logging.getLogger(__name__).info("measured: %s", rows)
