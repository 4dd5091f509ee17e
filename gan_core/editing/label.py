"""Editing by a label (Hu et al. 2022, section 3.4): move latents along the gradient of a classifier of latents."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Logits = Callable[[Tensor], Tensor]
"""Maps ``w_plus [B, n_latent, w_dim]`` to the logit ``[B]`` of one attribute."""
OFFSET = 1e-2
"""Step of the finite differences, in units of latents."""


def label_gradient(logits: Logits, w_plus: Tensor, target: bool) -> Tensor:
    """Return the gradient ``[B, n_latent, w_dim]`` of each row's cross entropy with ``target`` at ``w_plus``."""
    with torch.enable_grad():
        w_plus = w_plus.detach().requires_grad_()
        found = logits(w_plus)
        loss = F.binary_cross_entropy_with_logits(found, torch.full_like(found, float(target)), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, w_plus)
    return gradient


def first_order_direction(logits: Logits, w_plus: Tensor, target: bool) -> Tensor:
    """Return the gradient ``[B, n_latent, w_dim]`` scaled to unit length in each latent; the loss rises along it."""
    return F.normalize(label_gradient(logits, w_plus, target), dim=2)


def second_order_direction(
    logits: Logits, w_plus: Tensor, target: bool, start: Tensor, rounds: int = 2, offset: float = OFFSET
) -> Tensor:
    """Return the direction ``[B, n_latent, w_dim]`` of largest curvature at ``w_plus``; the loss rises along it.

    It has unit length in each latent. Power iteration from ``start`` (of the shape of ``w_plus``, such as noise) uses
    Hessian-vector products by finite differences, ``(g(w + offset d) - g(w)) / offset``. A row without curvature (a
    saturated classifier) uses its gradient instead. For a classifier with leaky ReLUs the two agree except at kinks.
    """
    gradient = label_gradient(logits, w_plus, target)
    direction = _unit_rows(start)
    for _ in range(rounds):
        curved = (label_gradient(logits, w_plus + offset * direction, target) - gradient) / offset
        size = curved.flatten(1).norm(dim=1)[:, None, None]
        direction = torch.where(size > 1e-6 * gradient.norm(), _unit_rows(curved), _unit_rows(gradient))
    direction = F.normalize(direction, dim=2)
    along = (direction * gradient).flatten(1).sum(1)[:, None, None]
    return torch.where(along < 0, -direction, direction)


def move_to_label(
    logits: Logits, w_plus: Tensor, target: bool, length: float, start: Tensor | None = None, steps: int = 4
) -> Tensor:
    """Move each latent of ``w_plus [B, n_latent, w_dim]`` by ``length`` in total towards a label.

    The direction is computed anew in each of ``steps``. With ``start`` it is of second order, else of first order.
    """
    for _ in range(steps):
        if start is None:
            direction = first_order_direction(logits, w_plus, target)
        else:
            direction = second_order_direction(logits, w_plus, target, start)
        w_plus = w_plus - length / steps * direction
    return w_plus


def _unit_rows(x: Tensor) -> Tensor:
    return x / x.flatten(1).norm(dim=1).clamp_min(1e-20)[:, None, None]
