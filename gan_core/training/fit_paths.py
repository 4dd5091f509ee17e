"""Fit paths of a generator: train them, name them, measure them and store them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gan_core.errors import ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.judges.scorers import Scorers
from gan_core.loading import load_generator
from gan_core.paths.measures import round_trip
from gan_core.paths.naming import name_paths, rank_paths
from gan_core.paths.space import sample_codes
from gan_core.paths.stored import SemanticPaths, save_paths
from gan_core.training.log import Report
from gan_core.training.params import PathsParams
from gan_core.training.paths import PathState, recognised, train_paths

ROUND_TRIP_CODES = 1000


@dataclass(frozen=True)
class PathFit:
    """One model of paths to fit: for which generator, scored by which networks, and where it goes."""

    model: str
    params: PathsParams
    generator_path: str
    scorers: Scorers
    target: Path
    made_by: str


def fit_paths(job: PathFit, folder: Path, report: Report) -> tuple[SemanticPaths, dict[str, Any]]:
    """Train (or go on in ``folder``), name, measure and store; return the paths and their scores.

    Raises ``ParamsError`` for unknown attributes.
    """
    check_attributes(job)
    generator = load_generator(job.generator_path)
    state = PathState.create(job.model, job.params, generator.model, generator.sha256)
    train_paths(state, job.params, generator.model, folder / "state.pt", report)
    scores = {"train_seconds": state.seconds, "recognised": recognised(state, job.params, generator.model)}
    return state.paths, name_and_store(job, state.paths, generator.model, scores)


def check_attributes(job: PathFit) -> None:
    """Raise ``ParamsError`` for wanted attributes that are not scored."""
    for name in job.params.attributes:
        if name not in job.scorers.names:
            raise ParamsError(f"attributes of the paths: unknown {name!r}{near_matches(name, job.scorers.names)}")


def name_again(job: PathFit, paths: SemanticPaths, scores: Mapping[str, float]) -> dict[str, Any]:
    """Name trained paths as ``job`` says and store them with the ``scores`` of their training, if there are any.

    Returns their scores. Raises ``ParamsError`` for unknown attributes.
    """
    check_attributes(job)
    return name_and_store(job, paths, load_generator(job.generator_path).model, scores)


def name_and_store(
    job: PathFit, paths: SemanticPaths, generator: Generator, scores: Mapping[str, float]
) -> dict[str, Any]:
    """Name the paths, measure how exactly they come back over ±3 of the largest unit, and write the file.

    Returns the scores: those of the whole, and by attribute those of the path that is named after it.
    """
    params, longest = job.params, job.params.amounts[1]
    ranking = rank_paths(paths, generator, job.scorers, params.rank_codes, longest, params.seed)
    named = name_paths(paths, generator, job.scorers, ranking, params.attributes, params.move, 2 * longest)
    codes = sample_codes(generator, paths.space, ROUND_TRIP_CODES, torch.Generator().manual_seed(params.seed + 1))
    with torch.no_grad():
        measured = round_trip(paths, codes, 3 * max(abs(path.unit) for path in named.values()))
    rounded = {key: round(value, 8) for key, value in (dict(scores) | measured).items()}
    job.target.parent.mkdir(parents=True, exist_ok=True)
    save_paths(job.target, paths, job.made_by, extra={"scores": rounded, "params": params.model_dump()})
    return {"scores": rounded} | {name: dict(path.scores) | {"path": path.path} for name, path in named.items()}
