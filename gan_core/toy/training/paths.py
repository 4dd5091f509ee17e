"""Fit paths of a generator: train them, name them, measure them and store them.

``python -m flows.train_models paths-warped`` does it for the portraits with ``train_paths``, ``digit-paths-warped`` for
the digits with ``train_digit_paths``; ``edit-dataset directions fit`` does it for any generator.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gan_core.editing.calibrate import Scorers
from gan_core.errors import ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.loading import load_generator
from gan_core.params import ModelPaths, Params, PathsParams
from gan_core.paths.measures import round_trip
from gan_core.paths.naming import name_paths, rank_paths
from gan_core.paths.space import sample_codes
from gan_core.paths.stored import SemanticPaths, save_paths
from gan_core.toy.digits import digit_eyes, load_digits
from gan_core.toy.training.sngan import TARGET as DIGITS_GENERATOR
from gan_core.training.directions import network_eyes
from gan_core.training.log import Report
from gan_core.training.paths import PathState, recognised, train_paths

METHODS = {"linear": "orthogonal", "warped": "warped", "curvilinear": "curvilinear", "coupling": "curvilinear-coupling"}
FOLDER = Path("data/models")
METRICS = Path("data/metrics")
STATES = Path("data/training")
ROUND_TRIP_CODES = 1000


@dataclass(frozen=True)
class Job:
    """One model of paths to fit: for which generator, judged by whom, and where it goes."""

    model: str
    params: PathsParams
    generator_path: str
    target: Path
    eyes: Callable[[Generator], Scorers]

    @property
    def state(self) -> Path:
        """What training resumes from."""
        return STATES / f"{self.target.stem}.pt"


def portrait_job(method: str, params: Params) -> Job:
    """Paths of the portraits' generator."""
    return Job(
        METHODS[method],
        params.train_paths,
        params.models.generator,
        FOLDER / f"paths-{method}.safetensors",
        lambda _: network_eyes(params.models),
    )


def digit_job(method: str, params: Params) -> Job:
    """Paths of the digits' generator."""
    return Job(
        METHODS[method],
        params.train_digit_paths,
        str(DIGITS_GENERATOR),
        FOLDER / f"digit-paths-{method}.safetensors",
        lambda generator: digit_eyes(load_digits(generator.size)),
    )


JOBS = {"paths": portrait_job, "digit-paths": digit_job}
JOB_NAMES = [f"{kind}-{method}" for kind in JOBS for method in METHODS]


def find_job(name: str, params: Params) -> Job:
    """The job called ``name``, one of ``JOB_NAMES``."""
    kind, _, method = name.rpartition("-")
    return JOBS[kind](method, params)


def network_job(model: str, params: PathsParams, models: ModelPaths, target: Path) -> Job:
    """Paths of any generator, judged by the networks of ``models``."""
    return Job(model, params, models.generator, target, lambda _: network_eyes(models))


def fit_paths(job: Job, report: Report) -> SemanticPaths:
    """Train (or go on), name, measure and store; raises ``ParamsError`` for attributes that nobody can see."""
    loaded = load_generator(job.generator_path)
    generator, eyes = loaded.model, job.eyes(loaded.model)
    check_attributes(job.params, eyes)
    state = PathState.create(job.model, job.params, generator, loaded.sha256)
    job.state.parent.mkdir(parents=True, exist_ok=True)
    started, done = time.monotonic(), state.step
    train_paths(state, job.params, generator, job.state, report)
    seconds = (time.monotonic() - started) / max(1, state.step - done) * job.params.steps
    scores = {"train_seconds": seconds, "recognised": recognised(state, job.params, generator)}
    scores |= name_and_measure(state.paths, job.params, generator, eyes)
    store(job, state.paths, scores)
    job.state.unlink(missing_ok=True)
    return state.paths


def check_attributes(params: PathsParams, eyes: Scorers) -> None:
    """Raise ``ParamsError`` for wanted attributes that nobody can see."""
    for name in params.attributes:
        if name not in eyes.names:
            raise ParamsError(f"attributes of the paths: unknown {name!r}{near_matches(name, eyes.names)}")


def name_and_measure(
    paths: SemanticPaths, params: PathsParams, generator: Generator, eyes: Scorers
) -> dict[str, float]:
    """Name the paths and return how exactly they come back and commute, over ±3 of the largest unit."""
    longest = params.amounts[1]
    ranking = rank_paths(paths, generator, eyes, params.rank_codes, longest, params.seed)
    named = name_paths(paths, generator, eyes, ranking, params.attributes, params.move, 2 * longest)
    codes = sample_codes(generator, paths.space, ROUND_TRIP_CODES, torch.Generator().manual_seed(params.seed + 1))
    with torch.no_grad():
        return round_trip(paths, codes, 3 * max(abs(path.unit) for path in named.values()))


def store(job: Job, paths: SemanticPaths, scores: dict[str, float]) -> None:
    """Write the file with its card, and the scores to ``data/metrics``."""
    job.target.parent.mkdir(parents=True, exist_ok=True)
    rounded = {key: round(value, 8) for key, value in scores.items()}
    extra: dict[str, Any] = {"scores": rounded, "params": job.params.model_dump()}
    save_paths(job.target, paths, "gan_core.toy.training.paths", extra=extra)
    METRICS.mkdir(parents=True, exist_ok=True)
    named = {name: asdict(path)["scores"] | {"path": path.path} for name, path in paths.named.items()}
    text = json.dumps({"scores": rounded} | named, indent=1, sort_keys=True)
    (METRICS / f"{job.target.stem}.json").write_text(text + "\n")


def name_again(paths: SemanticPaths, job: Job, scores: Mapping[str, float]) -> None:
    """Name trained paths as ``job`` says and store them with the ``scores`` of their training, if there are any.

    Raises ``ParamsError`` for attributes that nobody can see.
    """
    generator = load_generator(job.generator_path).model
    eyes = job.eyes(generator)
    check_attributes(job.params, eyes)
    store(job, paths, dict(scores) | name_and_measure(paths, job.params, generator, eyes))
