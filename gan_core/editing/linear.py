"""Fit linear directions to labelled latents, in three ways that each leave the other attributes unchanged.

Latents ``w [N, w_dim]`` and labels ``[N, A]`` are float64 arrays with one column of labels per attribute. Each fit
returns ``[A, w_dim]``: row i changes attribute i and, to first order, no other attribute.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

Array = np.ndarray
EXTREMES = 0.1
"""Share of the samples at each end of a label's range that ``boundary_directions`` separates."""
LOGISTIC_RIDGE = 1e-3
RIDGE = 1e-3
"""Weight of the L2 penalty; ``RIDGE`` is relative to the mean variance of the latents. It keeps the fits unique."""


def boundary_directions(w: Array, labels: Array) -> Array:
    """Return unit normals ``[A, w_dim]`` of logistic classifiers between the lowest and highest tenth of each label.

    Each is projected orthogonally to the others: InterFaceGAN's boundaries and conditional manipulation (Shen et al.
    2020, section 3.2), with all other attributes as conditions.
    """
    normals = np.stack([_boundary_normal(w, column) for column in labels.T])
    return np.stack([condition(normals[i], np.delete(normals, i, axis=0)) for i in range(len(normals))])


def svm_direction(w: Array, scores: Array, share: float = 0.2, penalty: float = 1.0) -> Array:
    """Return the unit normal ``[w_dim]`` between the codes of the highest and lowest ``share`` of ``scores [N]``.

    It is that of a linear support vector machine with squared hinge loss, as in InterFaceGAN (Shen et al. 2020, section
    3.1).
    """
    low, high = np.quantile(scores, [share, 1 - share])
    chosen = (scores <= low) | (scores >= high)
    x, signs = w[chosen], np.where(scores[chosen] >= high, 1.0, -1.0)

    def loss(parameters: Array) -> tuple[float, Array]:
        weights, bias = parameters[:-1], parameters[-1]
        short = np.maximum(0.0, 1 - signs * (x @ weights + bias))
        slope = -2 * penalty * signs * short
        value = 0.5 * weights @ weights + penalty * (short**2).sum()
        return value, np.append(weights + x.T @ slope, slope.sum())

    return _unit(minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x[:-1])


def condition(normal: Array, others: Array) -> Array:
    """Return ``normal [w_dim]`` minus its projection on the span of ``others [K, w_dim]``, scaled to unit length."""
    if len(others):
        basis = np.linalg.qr(others.T)[0]
        normal = normal - basis @ (basis.T @ normal)
    return _unit(normal)


def dual_directions(w: Array, labels: Array) -> Array:
    """Return the shortest moves ``[A, w_dim]``, in standard deviations of ``w``, that change one predicted attribute.

    With ``B`` the ridge regression of all labels on ``w`` and ``C`` the covariance of ``w``, the rows of
    ``(B' C B)^-1 B' C`` minimise ``d' C^-1 d`` under ``B' d_i = e_i``. They are scaled to unit length.
    """
    covariance = np.cov(w, rowvar=False)
    weights = _ridge(w, labels)
    pattern = covariance @ weights
    return _unit(np.linalg.solve(weights.T @ pattern, pattern.T))


def mean_directions(w: Array, labels: Array) -> Array:
    """Return the unit coefficients ``[A, w_dim]`` of the least-squares regression of ``w`` on all labels."""
    centred = labels - labels.mean(0)
    return _unit(np.linalg.lstsq(centred, w - w.mean(0), rcond=None)[0])


FITS: dict[str, Callable[[Array, Array], Array]] = {
    "boundary": boundary_directions,
    "dual": dual_directions,
    "mean": mean_directions,
}


def _boundary_normal(w: Array, labels: Array) -> Array:
    low, high = np.quantile(labels, [EXTREMES, 1 - EXTREMES])
    chosen = (labels <= low) | (labels >= high)
    spread = w.std(0) + 1e-12
    signs = np.where(labels[chosen] >= high, 1.0, -1.0)
    return _unit(_logistic((w[chosen] - w.mean(0)) / spread, signs) / spread)


def _logistic(x: Array, signs: Array) -> Array:
    def loss(parameters: Array) -> tuple[float, Array]:
        weights, bias = parameters[:-1], parameters[-1]
        margin = signs * (x @ weights + bias)
        slope = -signs / (1 + np.exp(np.clip(margin, -500, 500))) / len(x)
        value = np.logaddexp(0, -margin).mean() + 0.5 * LOGISTIC_RIDGE * weights @ weights
        return value, np.append(x.T @ slope + LOGISTIC_RIDGE * weights, slope.sum())

    return minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x[:-1]


def _ridge(w: Array, labels: Array) -> Array:
    centred = w - w.mean(0)
    gram = centred.T @ centred
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram, centred.T @ (labels - labels.mean(0)))


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
