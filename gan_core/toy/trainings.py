"""Every training of the project's models, by the name of its stage in ``dvc.yaml``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gan_core.device import compute_on
from gan_core.errors import ParamsError, near_matches
from gan_core.params import Params
from gan_core.sections import Section
from gan_core.toy.params import ENCODERS, TRANSLATIONS, ToyParams
from gan_core.toy.training.cel import make_cel
from gan_core.toy.training.encoder import make_encoder
from gan_core.toy.training.features import make_features
from gan_core.toy.training.gan import make_generator
from gan_core.toy.training.hypernetwork import make_hypernetwork
from gan_core.toy.training.measure_learners import LEARNERS
from gan_core.toy.training.measure_networks import make_network
from gan_core.toy.training.paths import make_digit_paths, make_paths
from gan_core.toy.training.shape_reader import make_shape_reader
from gan_core.toy.training.shapes import make_shapes
from gan_core.toy.training.sngan import make_digits
from gan_core.toy.training.translation import make_translator
from gan_core.training.directions import train_directions
from gan_core.training.latent_edits import train_latent_edits
from gan_core.training.log import Report, resumable, write_scores
from gan_core.training.params import DirectionsParams, LatentEditsParams

PATH_METHODS = ("linear", "warped", "curvilinear")
"""Those whose paths the project keeps."""


@dataclass(frozen=True)
class Training:
    """One training: what it makes is called ``name``, and ``section`` finds what it reads in ``toy.yaml``.

    ``make`` takes that section, the parameters of runs, a folder to resume from and a report; it trains, scores and
    stores, and returns the scores. What is ``shipped`` is a stage of ``dvc.yaml``, and its weights are in the project.
    """

    name: str
    section: Callable[[ToyParams], Section]
    make: Callable[[Any, Params, Path, Report], Mapping[str, Any]]
    shipped: bool = True

    def run(self, toy: ToyParams, params: Params, report: Report) -> None:
        """Train, or go on where it was stopped, and write the scores to ``data/metrics``."""
        with compute_on(params.run.device), resumable(self.name) as folder:
            write_scores(self.name, self.make(self.section(toy), params, folder, report))


def make_directions(
    chosen: DirectionsParams, params: Params, folder: Path, report: Report
) -> dict[str, dict[str, float]]:
    """Fit the directions of ``models.directions``, in one go, and return their scores."""
    found = train_directions(chosen, params.models)
    return {d.name: {key: round(value, 4) for key, value in sorted(d.scores.items())} for d in found}


def make_latent_edits(
    chosen: LatentEditsParams, params: Params, folder: Path, report: Report
) -> dict[str, dict[str, float]]:
    """Train what ``models.latent_edits`` names, or go on in ``folder``, and return its scores."""
    return train_latent_edits(chosen, params.models, folder, report)


def _section(name: str, key: str | None = None) -> Callable[[ToyParams], Section]:
    def find(toy: ToyParams) -> Section:
        section: Any = getattr(toy, name)
        if key is not None and key not in section:
            raise ParamsError(f"{name} has no section {key!r}{near_matches(key, section)}")
        return section if key is None else section[key]

    return find


NOT_SHIPPED = ("restyle-psp", "restyle-e4e", "idinvert", "alae")
"""What `python -m tasks.train` trains, an hour of a core or more each, and whose weights the project doesn't have."""
TRAININGS: dict[str, Training] = {
    "train-generator": Training("generator", _section("train_generator"), make_generator),
    "train-cel": Training("cel", _section("train_cel"), make_cel),
    **{
        f"train-network@{name}": Training(name, _section(f"train_{name}"), partial(make_network, name))
        for name in LEARNERS
    },
    **{
        f"train-encoder@{name}": Training(
            name, _section("train_encoder", name), partial(make_encoder, name), shipped=name not in NOT_SHIPPED
        )
        for name in ENCODERS
    },
    "train-hypernetwork": Training("hyperstyle", _section("train_hypernetwork"), make_hypernetwork, shipped=False),
    "train-features": Training("hfgi", _section("train_features"), make_features),
    **{
        f"train-translation@{name}": Training(
            f"translate-{name}", _section("train_translation", name), partial(make_translator, name)
        )
        for name in TRANSLATIONS
    },
    "fit-directions": Training("directions", _section("directions"), make_directions),
    "train-digits": Training("digits", _section("train_digits"), make_digits),
    **{
        f"train-paths@{method}": Training(f"paths-{method}", _section("train_paths"), partial(make_paths, method))
        for method in PATH_METHODS
    },
    **{
        f"train-digit-paths@{method}": Training(
            f"digit-paths-{method}", _section("train_digit_paths"), partial(make_digit_paths, method)
        )
        for method in PATH_METHODS
    },
    "train-shapes": Training("shapes", _section("train_shapes"), make_shapes),
    "train-shape-reader": Training("shape-reader", _section("train_shape_reader"), make_shape_reader),
    "train-latent-edits": Training("latent-edits", _section("train_latent_edits"), make_latent_edits),
}


def find_training(stage: str) -> Training:
    """Return the training of a stage of ``dvc.yaml``; raises ``ParamsError`` with near matches."""
    if stage not in TRAININGS:
        raise ParamsError(f"no training {stage!r}{near_matches(stage, TRAININGS)}")
    return TRAININGS[stage]
