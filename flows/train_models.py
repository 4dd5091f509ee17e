"""Train the embedded models, logged to MLflow: ``python -m flows.train_models generator`` or ``... encoder psp``."""

import argparse
import logging
from collections.abc import Callable

from gan_core.params import Params, load_params
from gan_core.training import cel, encoder, gan
from gan_core.training.log import Report, TrainingLog
from tasks.tracking import TrainingRun

Trainer = Callable[[Params, Report], None]
TRAINERS: dict[str, Trainer] = {"generator": gan.train, "cel": cel.train}


def train_model(name: str, params: Params) -> None:
    """Train one model, or go on where it was stopped, and store it."""
    TRAINERS[name](params, TrainingRun(name, params, TrainingLog(name)))


def train_encoder(variant: str, params: Params) -> None:
    """Train one variant of the encoder, or go on where it was stopped, and store it."""
    name, section = f"encoder-{variant}", encoder.variant_params(params, variant)
    encoder.train(params, TrainingRun(name, params, TrainingLog(name), section), variant)


def main() -> None:
    """Train the named model with ``params.yaml``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted([*TRAINERS, "encoder"]))
    parser.add_argument("variant", nargs="?", default="psp", help="a section of train_encoder in params.yaml")
    chosen = parser.parse_args()
    if chosen.name == "encoder":
        train_encoder(chosen.variant, load_params())
    else:
        train_model(chosen.name, load_params())


if __name__ == "__main__":
    main()
