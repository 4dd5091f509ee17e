"""Solvers of ordinary differential equations ``dx/dt = h(t, x)``, forwards and backwards in time."""

from collections.abc import Callable

import torch
from torch import Tensor

from gan_core.errors import ParamsError

Field = Callable[[float, Tensor], Tensor]
"""The right side ``h``: maps a time and a state ``[B, D]`` to its derivative ``[B, D]``."""
MAX_STEPS = 10_000
"""Bound on the steps of one integration, so that a stiff field ends in an error."""

# Dormand and Prince 1980, table 2: the stages, and the difference of the two results that estimates the error.
NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def runge_kutta(field: Field, x: Tensor, start: float, end: float, steps: int) -> Tensor:
    """Integrate ``x [B, D]`` from ``start`` to ``end`` with ``steps`` equal Runge-Kutta steps of order 4."""
    width = (end - start) / steps
    for i in range(steps):
        t = start + i * width
        k1 = field(t, x)
        k2 = field(t + width / 2, x + width / 2 * k1)
        k3 = field(t + width / 2, x + width / 2 * k2)
        k4 = field(t + width, x + width * k3)
        x = x + width / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def dormand_prince(field: Field, x: Tensor, start: float, end: float, tolerance: float) -> Tensor:
    """Integrate ``x [B, D]`` from ``start`` to ``end`` with adaptive steps.

    The root mean square of error / (tolerance (1 + |x|)) is kept below 1, with one step size for the whole batch.
    Raises ``ParamsError`` if that takes more than 10,000 steps.
    """
    t, width = start, (end - start) / 8
    first = field(t, x)
    for _ in range(MAX_STEPS):
        width = end - t if abs(width) > abs(end - t) else width
        new, slopes = _stages(field, x, t, width, first)
        error = sum(width * c * k for c, k in zip(ERROR, slopes, strict=True) if c)
        size = float(((error / (tolerance * (1 + torch.maximum(x.abs(), new.abs())))) ** 2).mean().sqrt())
        if size <= 1:
            t, x, first = t + width, new, slopes[-1]
            if abs(end - t) < 1e-12:
                return x
        # The error grows as width ** 5; 0.9 is a safety factor, and a step changes by a factor of 5 at most.
        width *= min(5.0, max(0.2, 0.9 * max(size, 1e-10) ** -0.2))
    raise ParamsError(f"the flow can't be solved to {tolerance:g}: use a wider tolerance")


def _stages(field: Field, x: Tensor, t: float, width: float, first: Tensor) -> tuple[Tensor, list[Tensor]]:
    slopes, point = [first], x
    for node, row in zip(NODES[1:], STAGES[1:], strict=True):
        point = x + width * sum(c * k for c, k in zip(row, slopes, strict=True) if c)
        slopes.append(field(t + node * width, point))
    return point, slopes
