"""Boundaries of attributes by support vector machines, as InterFaceGAN fits them, for any generator."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from gan_core.device import fetch, place_array
from gan_core.editing.calibrate import calibrate, with_reached_unit
from gan_core.editing.directions import Direction, add_directions, kept_directions
from gan_core.editing.linear import Array, condition, svm_direction
from gan_core.errors import ParamsError, near_matches
from gan_core.judges.scorers import load_scorers
from gan_core.loading import load_generator
from gan_core.params import ModelPaths
from gan_core.training.directions import sample_faces
from gan_core.training.params import DirectionsParams

CALIBRATION_FACES = 64


def fit_boundaries(
    target: str | Path, attributes: Sequence[str], free_of: Sequence[str], params: DirectionsParams, models: ModelPaths
) -> list[Direction]:
    """Fit a boundary for each of ``attributes``, free of the others in ``free_of``, and add them to ``target``.

    The normals of support vector machines on ``params.samples`` latents of ``models.generator``, labelled by the
    attribute network, projected off those of ``free_of`` (Shen et al. 2020, sections 3.1 and 3.2), and scaled so that
    strength 1 moves the attribute by ``params.move`` of its range. Raises ``ParamsError`` for attributes that the
    network doesn't know.
    """
    scorers = load_scorers(models)
    for name in [*attributes, *free_of]:
        if name not in scorers.names:
            raise ParamsError(f"no attribute {name!r} to fit{near_matches(name, scorers.names)}")
    loaded = load_generator(models.generator)
    generator, sha256 = loaded.model, loaded.sha256
    kept_directions(target, loaded)  # refuses before anything is measured
    faces = sample_faces(generator, params.samples, params.seed, scorers)
    held_out = min(CALIBRATION_FACES, params.samples // 4)
    few = faces.part(slice(held_out))
    w, labels = (fetch(t[held_out:]).astype(np.float64) for t in (faces.w_plus[:, 0], faces.attributes))
    normals = normals_of(w, labels, scorers.names, {*attributes, *free_of})
    found = []
    for name in attributes:
        normal, method = boundary(normals, name, free_of)
        draft = Direction(name, place_array(normal.astype(np.float32)), sha256, method=method)
        long = calibrate(generator, few, draft, scorers, params.move, reach(w))
        found.append(with_reached_unit(long, params.move))
    made_by = f"edit-dataset directions fit svm, {params.samples} samples, seed {params.seed}"
    add_directions(target, found, loaded, made_by)
    return found


def normals_of(w: Array, labels: Array, names: Sequence[str], wanted: Collection[str]) -> dict[str, Array]:
    """Return the unit normals ``[w_dim]`` of the ``wanted`` attributes by name.

    ``w [N, w_dim]`` are latents, and ``labels [N, A]`` their attributes, called ``names``.
    """
    return {name: svm_direction(w, labels[:, names.index(name)]) for name in wanted}


def boundary(normals: Mapping[str, Array], name: str, free_of: Sequence[str]) -> tuple[Array, str]:
    """Return the normal ``[w_dim]`` of an attribute, projected off those of ``free_of``, and what was done."""
    others = [other for other in free_of if other != name]
    normal = condition(normals[name], np.reshape([normals[other] for other in others], (-1, len(normals[name]))))
    return normal, "svm" + (f" free of {', '.join(others)}" if others else "")


def reach(w: Array) -> float:
    """Return the root mean square distance of latents ``[N, w_dim]`` from their mean: no direction is made longer."""
    return float(np.sqrt(((w - w.mean(0)) ** 2).sum(1).mean()))
