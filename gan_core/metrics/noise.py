"""How far a number moves when other rows are drawn: the bootstrap (Efron 1979), by weights instead of copies."""

from collections.abc import Callable

import numpy as np

from gan_core.metrics.base import State
from gan_core.metrics.frechet import frechet_distance
from gan_core.metrics.swd import PATCHES_PER_IMAGE, describe

RESAMPLES = 200
DIRECTIONS = 8

Statistic = Callable[[np.ndarray], float]
"""Takes how often each row is drawn, int ``[N]`` with sum N, and gives the number of these rows."""


def bootstrap_error(statistic: Statistic, rows: int, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Return the standard deviation of ``statistic`` over resamples of ``rows`` rows with replacement."""
    rng = np.random.default_rng(seed)
    draws = (np.bincount(rng.integers(0, rows, rows), minlength=rows) for _ in range(resamples))
    return float(np.std([statistic(weights) for weights in draws], ddof=1))


def mean_of(values: np.ndarray) -> Statistic:
    """The mean of ``values [N]``."""
    return lambda weights: float(weights @ values / weights.sum())


def frechet_of(one: np.ndarray, other: np.ndarray) -> Statistic:
    """The Frechet distance of two sets of features ``[N, D]`` of the same rows, drawn together."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    return lambda weights: frechet_distance(_gather(one, weights), _gather(other, weights))


def sliced_of(real: np.ndarray, fake: np.ndarray, seed: int = 0) -> Statistic:
    """The sliced Wasserstein distance x 1000 of two sets of images uint8 ``[N, R, R, 3]`` of the same rows.

    With fewer directions than the published number has: its noise is a little more than that number's.
    """
    rng = np.random.RandomState(seed)
    ours, theirs = describe(real, rng), describe(fake, rng)
    levels = [(_project(ours[r], axes), _project(theirs[r], axes)) for r in ours for axes in [_axes(rng)]]
    return lambda weights: 1000 * float(np.mean([_distance(*level, weights) for level in levels]))


Sorted = tuple[np.ndarray, np.ndarray]
"""Projections sorted along axis 1, ``[directions, N * patches]``, and the row that each comes from."""


def _gather(features: np.ndarray, weights: np.ndarray) -> State:
    weighted = features * weights[:, None]
    return {"n": np.asarray(float(weights.sum())), "sum": weighted.sum(0), "outer": weighted.T @ features}


def _axes(rng: np.random.RandomState) -> np.ndarray:
    axes = rng.randn(147, DIRECTIONS)
    unit: np.ndarray = (axes / np.linalg.norm(axes, axis=0)).astype(np.float32)
    return unit


def _project(patches: np.ndarray, axes: np.ndarray) -> Sorted:
    values = (patches @ axes).T
    order = np.argsort(values, axis=1)
    return np.take_along_axis(values, order, axis=1), order // PATCHES_PER_IMAGE


def _distance(one: Sorted, other: Sorted, weights: np.ndarray) -> float:
    pairs = zip(*one, *other, strict=True)
    return float(np.mean([np.abs(np.repeat(a, weights[i]) - np.repeat(b, weights[j])).mean() for a, i, b, j in pairs]))
