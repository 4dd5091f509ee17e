"""Train the embedded models, logged to MLflow: ``python -m flows.train_models generator`` or ``... encoder psp``."""

import argparse
import logging
import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress

from gan_core.params import Params, load_params
from gan_core.toy.training import cel, encoder, gan, sngan, translation
from gan_core.toy.training.paths import JOB_NAMES, find_job, fit_paths
from gan_core.training.log import Report, TrainingLog
from tasks.training_run import TrainingRun

Trainer = Callable[[Params, Report], None]
TRAINERS: dict[str, Trainer] = {"generator": gan.train, "cel": cel.train, "digits": sngan.train}


def train_model(name: str, params: Params) -> None:
    """Train one model, or go on where it was stopped, and store it."""
    with TrainingRun(name, params, TrainingLog(name)) as run:
        TRAINERS[name](params, run)


def train_encoder(variant: str, params: Params) -> None:
    """Train one variant of the encoder, or go on where it was stopped, and store it; on a terminal with a bar."""
    name, section = f"encoder-{variant}", encoder.variant_params(params, variant)
    bars = Progress(console=Console(stderr=True), disable=not sys.stderr.isatty())
    with TrainingRun(name, params, TrainingLog(name), section) as run, bars:
        bar = bars.add_task(name, total=section.images)
        encoder.train(params, run, variant, lambda seen: bars.update(bar, completed=seen))


def train_translation(task: str, params: Params) -> None:
    """Train the encoder of one translation task, or go on where it was stopped, and store it."""
    name, section = f"translate-{task}", translation.task_settings(params, task)
    with TrainingRun(name, params, TrainingLog(name), section) as run:
        translation.train(params, run, task)


def train_paths(name: str, params: Params) -> None:
    """Fit the paths of the job ``name``, or go on where it was stopped, and store them."""
    job = find_job(name, params)
    with TrainingRun(name, params, TrainingLog(name), job.params) as run:
        fit_paths(job, run)


def main() -> None:
    """Train the named model with ``params.yaml``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted([*TRAINERS, "encoder", "translation", *JOB_NAMES]))
    parser.add_argument("variant", nargs="?", default="psp", help="a section of train_encoder or train_translation")
    chosen = parser.parse_args()
    if chosen.name == "encoder":
        train_encoder(chosen.variant, load_params())
    elif chosen.name == "translation":
        train_translation(chosen.variant, load_params())
    elif chosen.name in JOB_NAMES:
        train_paths(chosen.name, load_params())
    else:
        train_model(chosen.name, load_params())


if __name__ == "__main__":
    main()
