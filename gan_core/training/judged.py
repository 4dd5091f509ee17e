"""Directions of attributes that a judge sees in a generator's own pictures, for any generator and without labels."""

from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_core.align.landmarks import LANDMARK_SOURCES
from gan_core.checkpoints.files import Loaded
from gan_core.device import fetch, place_array
from gan_core.editing.calibrate import calibrate, reached
from gan_core.editing.directions import Direction, add_directions, kept_directions
from gan_core.editing.linear import Array
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.judges.attribute_judges import AttributeJudge, find_judge
from gan_core.judges.scorers import Scored, Scorers
from gan_core.loading import load_generator
from gan_core.params import ModelPaths
from gan_core.rows import Rejected
from gan_core.storage.images import to_uint8
from gan_core.training.boundaries import CALIBRATION_FACES, boundary, normals_of, reach
from gan_core.training.directions import sample_faces
from gan_core.training.params import DirectionsParams

DETECTOR = "mtcnn"
DETECTED = 16
"""Pictures in which faces are looked for."""
FEWEST_FACES = 0.5
"""The share of them that must show a face, so that a judge of faces means something."""


@dataclass(frozen=True)
class Wanted:
    """A direction to fit: by which judge, and by how much one unit of it moves the attribute, in the judge's unit."""

    name: str
    judge: AttributeJudge
    amount: float


def parse_wanted(text: str, models: ModelPaths) -> Wanted:
    """Read ``JUDGE`` or ``JUDGE=AMOUNT``, such as ``age=5``; raises ``UserError`` for anything else."""
    name, given, amount = text.partition("=")
    judge = find_judge(name.strip(), models)
    try:
        wanted = float(amount) if given else judge.step
    except ValueError:
        wanted = 0.0
    if not 0 < wanted < judge.high - judge.low:
        raise ParamsError(
            f"--judge {text[:80]}: one unit of a direction moves by more than 0 and less than "
            f"{judge.high - judge.low:g} {judge.unit}, such as {name}={judge.step:g}"
        )
    return Wanted(name.strip(), judge, wanted)


def fit_judged(
    target: str | Path, judges: Sequence[str], free_of: Sequence[str], params: DirectionsParams, models: ModelPaths
) -> list[Direction]:
    """Fit a direction for each of ``judges``, free of the attributes of ``free_of``, and add them to ``target``.

    ``params.samples`` latents of ``models.generator`` are drawn and their pictures judged. Three quarters are separated
    by support vector machines as in ``fit_boundaries``; on the others it is measured how the attribute follows the
    direction, and how long one unit is. Raises ``UserError`` for unknown or missing judges, for a judge of faces where
    the generator draws none, for an attribute that no picture or no direction changes, and for a target that holds
    directions of another generator.
    """
    wanted = [parse_wanted(text, models) for text in judges]
    others = [parse_wanted(text, models) for text in free_of if text not in [each.name for each in wanted]]
    everything = _by_attribute([*wanted, *others])
    generator = load_generator(models.generator)
    kept_directions(target, generator)  # refuses before anything is measured
    _check_faces(generator, everything.values(), params.seed)
    faces = sample_faces(generator.model, params.samples, params.seed, judge_scorers(everything))
    _check_variety(generator, everything, faces)
    free = [each.judge.attribute for each in everything.values() if each in others or each.name in free_of]
    found = [_fit(generator, each, free, faces, everything, params) for each in wanted]
    add_directions(target, found, generator, f"edit-dataset directions fit svm --judge, seed {params.seed}")
    return found


def judge_scorers(wanted: dict[str, Wanted]) -> Scorers:
    """Score pictures by these judges, as shares of their ranges; nobody says who is in them."""

    def attributes(images: Tensor) -> Tensor:
        shown = images.clamp(-1, 1)
        return torch.stack([each.judge.shares(shown) for each in wanted.values()], 1)

    return Scorers(tuple(wanted), attributes, lambda images: images.new_zeros(len(images), 0))


def _by_attribute(wanted: Sequence[Wanted]) -> dict[str, Wanted]:
    found: dict[str, Wanted] = {}
    for each in wanted:
        if each.judge.attribute in found:
            raise ParamsError(f"two judges see {each.judge.attribute!r}: fit their directions into two files")
        found[each.judge.attribute] = each
    return found


@torch.no_grad()
def _check_faces(generator: Loaded[Generator], wanted: Iterable[Wanted], seed: int) -> None:
    """Raise ``ParamsError`` if a judge of faces is asked about a generator that draws none."""
    names = [each.name for each in wanted if each.judge.faces]
    if not names:
        return
    model = generator.model
    z = torch.randn(DETECTED, model.z_dim, generator=torch.Generator().manual_seed(seed)).to(model.latent_avg.device)
    pictures = model.synthesis(model.broadcast(model.mapping(z)))
    seen = count_faces(pictures)
    if seen < FEWEST_FACES * DETECTED:
        raise ParamsError(
            f"{', '.join(names)} judges faces, and {DETECTOR} finds one in {seen} of {DETECTED} pictures of "
            f"{generator.path}: choose a judge of what it draws, such as one of models.attributes"
        )


def count_faces(images: Tensor) -> int:
    """Return in how many of the pictures ``[B, 3, H, W]`` the detector finds a face.

    Raises ``CheckpointError`` where its networks are missing.
    """
    source = LANDMARK_SOURCES.get(DETECTOR)()
    found = (source.landmarks(Image.fromarray(pixels), {}) for pixels in to_uint8(images))
    return sum(not isinstance(points, Rejected) for points in found)


def _check_variety(generator: Loaded[Generator], wanted: dict[str, Wanted], faces: Scored) -> None:
    for column, each in enumerate(wanted.values()):
        values = faces.attributes[:, column]
        if not values.isfinite().all():
            raise ParamsError(
                f"{each.name} gives no number for some pictures of {generator.path}: choose another judge"
            )
        if values.max() - values.min() <= 0:
            raise ParamsError(
                f"{each.name} gives the same value for all {len(values)} pictures of {generator.path}: choose "
                "another judge"
            )
        kept = values[: _held_out(values)]
        if kept.max() - kept.min() <= 0:
            raise ParamsError(
                f"{each.name} gives the same value for the {len(kept)} pictures of {generator.path} that are kept to "
                "measure with: draw more (--set samples=N)"
            )


def _held_out(faces: Sized) -> int:
    """How many pictures are kept to measure with, the first ones: a quarter."""
    return max(1, len(faces) // 4)


def _fit(
    generator: Loaded[Generator],
    wanted: Wanted,
    free_of: Sequence[str],
    faces: Scored,
    everything: dict[str, Wanted],
    params: DirectionsParams,
) -> Direction:
    judge, scorers = wanted.judge, judge_scorers(everything)
    held_out = _held_out(faces.w_plus)
    w, labels = (fetch(part).astype(np.float64) for part in (faces.w_plus[:, 0], faces.attributes))
    fitted, column = slice(held_out, None), scorers.names.index(judge.attribute)
    normals = normals_of(w[fitted], labels[fitted], scorers.names, {judge.attribute, *free_of})
    normal, method = boundary(normals, judge.attribute, free_of)
    space = "w" if "w" in generator.model.spaces else "z"
    draft = Direction(judge.attribute, place_array(normal.astype(np.float32)), generator.sha256, space, method=method)
    few = faces.part(slice(min(CALIBRATION_FACES, held_out)))
    span = judge.high - judge.low
    long = calibrate(generator.model, few, draft, scorers, wanted.amount / span, reach(w[fitted]))
    told = {
        "judge": wanted.name,
        "network": judge.network,
        "sha256": judge.sha256,
        **follow(w @ normal, labels[:, column], held_out),
        "samples": len(w),
        "seed": params.seed,
    }
    return _named(generator, long, wanted, told, alone=len(everything) == 1)


def follow(positions: Array, values: Array, held_out: int) -> dict[str, float]:
    """Say how well values ``[N]`` follow positions ``[N]`` along a direction, on the first ``held_out`` of them.

    ``correlation`` is Pearson's. ``r2`` is the share of the variance that the straight line explains which fits the
    others best; below 0 it says less than their mean.
    """
    line = np.polynomial.Polynomial.fit(positions[held_out:], values[held_out:], 1)
    x, y = positions[:held_out], values[:held_out]
    error = ((y - line(x)) ** 2).sum() / ((y - y.mean()) ** 2).sum() if np.ptp(y) else np.inf
    return {"correlation": round(float(np.corrcoef(x, y)[0, 1]), 4), "r2": round(float(1 - error), 4)}


def _named(
    generator: Loaded[Generator], direction: Direction, wanted: Wanted, told: dict[str, Any], alone: bool
) -> Direction:
    """State what one unit does in the judge's unit, as measured."""
    judge = wanted.judge
    moved = direction.scores["move"] * (judge.high - judge.low)
    if not moved > 0:
        raise ParamsError(
            f"no direction of {generator.path} changes {judge.attribute} as {wanted.name} measures it (correlation "
            f"{told['correlation']:g} over {told['samples']} pictures): draw more (--set samples=N)"
        )
    unit = reached(moved, wanted.amount, judge.unit)
    scores = {name: value for name, value in direction.scores.items() if name != "side_effect" or not alone}
    return replace(direction, unit=unit, scores=scores, judge=told | {"unit": judge.unit, "move": round(moved, 4)})
