"""The paths of the project's own generators: that of the portraits, and that of the digits."""

from pathlib import Path
from typing import Any

from gan_core.judges.scorers import load_scorers
from gan_core.loading import load_generator
from gan_core.params import ModelPaths, Params
from gan_core.toy.digits import digit_scorers, load_digits
from gan_core.toy.training.sngan import TARGET as DIGITS_GENERATOR
from gan_core.training.fit_paths import PathFit, fit_paths
from gan_core.training.log import Report
from gan_core.training.params import PathsParams

METHODS = {"linear": "orthogonal", "warped": "warped", "curvilinear": "curvilinear", "coupling": "curvilinear-coupling"}
FOLDER = Path("data/models")


def portrait_fit(method: str, chosen: PathsParams, models: ModelPaths) -> PathFit:
    """Paths of the portraits' generator by one of ``METHODS``."""
    return PathFit(
        METHODS[method],
        chosen,
        models.generator,
        load_scorers(models),
        FOLDER / f"paths-{method}.safetensors",
        f"python -m tasks.train train-paths@{method}",
    )


def digit_fit(method: str, chosen: PathsParams) -> PathFit:
    """Paths of the digits' generator by one of ``METHODS``."""
    return PathFit(
        METHODS[method],
        chosen,
        str(DIGITS_GENERATOR),
        digit_scorers(load_digits(load_generator(DIGITS_GENERATOR).model.size)),
        FOLDER / f"digit-paths-{method}.safetensors",
        f"python -m tasks.train train-digit-paths@{method}",
    )


def make_paths(method: str, chosen: PathsParams, params: Params, folder: Path, report: Report) -> dict[str, Any]:
    """Fit the paths of the portraits, or go on in ``folder``; return their scores."""
    return fit_paths(portrait_fit(method, chosen, params.models), folder, report)[1]


def make_digit_paths(method: str, chosen: PathsParams, params: Params, folder: Path, report: Report) -> dict[str, Any]:
    """Fit the paths of the digits, or go on in ``folder``; return their scores."""
    return fit_paths(digit_fit(method, chosen), folder, report)[1]
