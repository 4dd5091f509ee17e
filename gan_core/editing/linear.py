"""Linear directions from labelled latents: three fits, each free of the other attributes.

Latents ``w [N, w_dim]`` and labels ``[N, A]`` are float64 arrays, one column of labels per attribute. Each fit returns
``[A, w_dim]``: row i changes attribute i and, to first order, none of the others.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

Array = np.ndarray
EXTREMES = 0.1
LOGISTIC_RIDGE = 1e-3
RIDGE = 1e-3


def boundary_directions(w: Array, labels: Array) -> Array:
    """Normals of logistic classifiers between the lowest and highest tenth, each projected off the others.

    InterFaceGAN (Shen et al. 2020, section 3.2: boundary and conditional manipulation), with all other attributes as
    conditions at once.
    """
    normals = np.stack([_boundary_normal(w, column) for column in labels.T])
    return np.stack([condition(normals[i], np.delete(normals, i, axis=0)) for i in range(len(normals))])


def svm_direction(w: Array, scores: Array, share: float = 0.2, penalty: float = 1.0) -> Array:
    """Unit normal ``[w_dim]`` between the codes of the highest and the lowest ``share`` of ``scores [N]``.

    A linear support vector machine with squared hinge loss, InterFaceGAN's way to find a boundary (Shen et al. 2020,
    section 3.1).
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
    """Remove from ``normal [w_dim]`` its projection on the span of ``others [K, w_dim]``; unit length."""
    if len(others):
        basis = np.linalg.qr(others.T)[0]
        normal = normal - basis @ (basis.T @ normal)
    return _unit(normal)


def dual_directions(w: Array, labels: Array) -> Array:
    """Shortest moves, measured in standard deviations of ``w``, that change one predicted attribute alone.

    With ``B`` the ridge regression of all labels on ``w`` and ``C`` the covariance of ``w``, the rows of
    ``(B' C B)^-1 B' C`` minimise ``d' C^-1 d`` under ``B' d_i = e_i``.
    """
    covariance = np.cov(w, rowvar=False)
    weights = _ridge(w, labels)
    pattern = covariance @ weights
    return _unit(np.linalg.solve(weights.T @ pattern, pattern.T))


def mean_directions(w: Array, labels: Array) -> Array:
    """How the mean latent moves with one label while the others stay: least squares of ``w`` on all labels."""
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
