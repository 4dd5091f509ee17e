"""How far a number moves when other rows are drawn: the bootstrap (Efron 1979), by weights instead of copies."""

from collections.abc import Callable

import numpy as np

from gan_core.metrics.base import State
from gan_core.metrics.frechet import frechet_distance, gather
from gan_core.metrics.swd import PATCHES_PER_IMAGE, describe

RESAMPLES = 200
SWAPS = 100
DIRECTIONS = 8
SEED = 0

Statistic = Callable[[np.ndarray], float]
"""Takes how often each row is drawn, int ``[N]`` with sum N, and gives the number of these rows."""
Distance = Callable[[np.ndarray], float]
"""Takes what is known of the rows of a set ``[N, ...]`` and gives its distance from another."""


def bootstrap_error(statistic: Statistic, rows: int, resamples: int = RESAMPLES) -> float:
    """Return the standard deviation of ``statistic`` over resamples of ``rows`` rows with replacement."""
    rng = np.random.default_rng(SEED)
    draws = (np.bincount(rng.integers(0, rows, rows), minlength=rows) for _ in range(resamples))
    return float(np.std([statistic(weights) for weights in draws], ddof=1))


def swap_error(distance: Distance, before: np.ndarray, now: np.ndarray) -> float:
    """Return the standard error of ``distance(now) - distance(before)`` where neither set of rows is the better one.

    Both are ``[N, ...]``, of the same rows. Each row is taken from the one or the other at random, and the rest makes
    the second set (the randomisation test of Fisher 1935, by its standard deviation).
    """
    rng = np.random.default_rng(SEED)
    masks = (rng.integers(0, 2, len(now), dtype=bool).reshape(-1, *[1] * (now.ndim - 1)) for _ in range(SWAPS))
    changes = [distance(np.where(m, now, before)) - distance(np.where(m, before, now)) for m in masks]
    return float(np.sqrt(np.mean(np.square(changes))))


def mean_of(values: np.ndarray) -> Statistic:
    """The mean of ``values [N]``."""
    return lambda weights: float(weights @ values / weights.sum())


def frechet_of(one: np.ndarray, other: np.ndarray) -> Statistic:
    """The Frechet distance of two sets of features ``[N, D]`` of the same rows, drawn together."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    return lambda weights: frechet_distance(_gather(one, weights), _gather(other, weights))


def sliced_of(real: np.ndarray, fake: np.ndarray) -> Statistic:
    """The sliced Wasserstein distance x 1000 of two sets of images uint8 ``[N, R, R, 3]`` of the same rows.

    With fewer directions than the published number has: its noise is a little more than that number's.
    """
    ours, theirs = project_patches(real, fake)
    levels = [(_sort(ours[:, i]), _sort(theirs[:, i])) for i in range(ours.shape[1])]
    return lambda weights: 1000 * float(np.mean([_distance(*level, weights) for level in levels]))


def project_patches(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the sliced distance sees of both sets: float32 ``[N, levels, directions, patches]`` each."""
    rng = np.random.RandomState(SEED)
    ours, theirs = describe(real, rng), describe(fake, rng)
    axes = {resolution: _axes(rng) for resolution in ours}
    return _project(ours, axes, len(real)), _project(theirs, axes, len(fake))


def frechet_from(real: np.ndarray) -> Distance:
    """The Frechet distance of a set of features ``[N, D]`` from ``real``."""
    ours = gather(real)
    return lambda fake: frechet_distance(ours, gather(fake))


def sliced_from(real: np.ndarray) -> Distance:
    """The sliced distance x 1000 of projections ``[N, levels, directions, patches]`` from those of ``real``."""
    ours = _sort_all(real)
    return lambda fake: 1000 * float(np.abs(ours - _sort_all(fake)).mean())


Sorted = tuple[np.ndarray, np.ndarray]
"""Projections sorted along axis 1, ``[directions, N * patches]``, and the row that each comes from."""


def _gather(features: np.ndarray, weights: np.ndarray) -> State:
    weighted = features * weights[:, None]
    return {"n": np.asarray(float(weights.sum())), "sum": weighted.sum(0), "outer": weighted.T @ features}


def _axes(rng: np.random.RandomState) -> np.ndarray:
    axes = rng.randn(147, DIRECTIONS)
    unit: np.ndarray = (axes / np.linalg.norm(axes, axis=0)).astype(np.float32)
    return unit


def _project(patches: dict[int, np.ndarray], axes: dict[int, np.ndarray], rows: int) -> np.ndarray:
    values = ((patches[r] @ axes[r]).reshape(rows, PATCHES_PER_IMAGE, DIRECTIONS) for r in patches)
    return np.stack([part.transpose(0, 2, 1) for part in values], axis=1)


def _sort_all(projections: np.ndarray) -> np.ndarray:
    _, levels, directions, _ = projections.shape
    return np.sort(projections.transpose(1, 2, 0, 3).reshape(levels, directions, -1), axis=-1)


def _sort(level: np.ndarray) -> Sorted:
    values = level.transpose(1, 0, 2).reshape(level.shape[1], -1)
    order = np.argsort(values, axis=1)
    return np.take_along_axis(values, order, axis=1), order // PATCHES_PER_IMAGE


def _distance(one: Sorted, other: Sorted, weights: np.ndarray) -> float:
    pairs = zip(*one, *other, strict=True)
    return float(np.mean([np.abs(np.repeat(a, weights[i]) - np.repeat(b, weights[j])).mean() for a, i, b, j in pairs]))
