"""How paths of the project's own generators get better with moves.

``python -m gan_core.toy.training.path_study digits`` reads ``study_digit_paths`` of ``toy.yaml`` (``shapes``:
``study_shape_paths``, ``portraits``: ``study_paths``), goes on where it was stopped, and writes a row for each method,
seed and number of moves. ``--workers`` is how many trainings go on beside each other, a core each.
"""

from functools import partial

from gan_core.judges.scorers import Scorers, load_scorers
from gan_core.loading import load_generator
from gan_core.params import Params
from gan_core.toy.digits import digit_scorers, load_digits
from gan_core.toy.params import ToyParams
from gan_core.toy.shape_judges import measured, read
from gan_core.toy.training.measure_networks import network_path
from gan_core.toy.training.paths import METHODS
from gan_core.toy.training.shapes import TARGET as SHAPES_GENERATOR
from gan_core.toy.training.sngan import TARGET as DIGITS_GENERATOR
from gan_core.toy.training.study_command import run_command
from gan_core.training.path_study import PathStudy

TARGETS = {"digits": "study-digit-paths", "portraits": "study-paths", "shapes": "study-shape-paths"}
MOMENTS, SECOND = "moments", "second regressor"
"""The judge of shapes that no network is part of, and that of portraits that didn't name the paths."""


def path_study(world: str, toy: ToyParams, params: Params) -> PathStudy:
    """Return the study of one of ``TARGETS``."""
    if world == "digits":
        generator = load_generator(DIGITS_GENERATOR)
        scorers: Scorers = digit_scorers(load_digits(generator.model.size))
        return PathStudy(toy.study_digit_paths, generator.model, generator.sha256, scorers, METHODS)
    if world == "shapes":
        generator, judges = load_generator(SHAPES_GENERATOR), {MOMENTS: measured()}
        return PathStudy(toy.study_shape_paths, generator.model, generator.sha256, read(), METHODS, judges)
    models = params.models
    second = models.model_copy(update={"attributes": str(network_path("judge", models))})
    generator, scorers, judges = load_generator(models.generator), load_scorers(models), {SECOND: load_scorers(second)}
    return PathStudy(toy.study_paths, generator.model, generator.sha256, scorers, METHODS, judges)


def main() -> None:
    """Run the study with the parameters of this folder."""
    run_command(__doc__ or "", {world: (name, partial(path_study, world)) for world, name in TARGETS.items()})


if __name__ == "__main__":
    main()
