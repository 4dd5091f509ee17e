"""Editing by a label (Hu et al. 2022, section 3.4): latents move until a classifier of latents says so."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Logits = Callable[[Tensor], Tensor]
"""``w_plus [B, n_latent, w_dim]`` -> the logit of one attribute, ``[B]``."""
OFFSET = 1e-2


def label_gradient(logits: Logits, w_plus: Tensor, target: bool) -> Tensor:
    """Gradient of each row's cross entropy towards ``target`` with respect to its latents."""
    with torch.enable_grad():
        w_plus = w_plus.detach().requires_grad_()
        found = logits(w_plus)
        loss = F.binary_cross_entropy_with_logits(found, torch.full_like(found, float(target)), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, w_plus)
    return gradient


def first_order_direction(logits: Logits, w_plus: Tensor, target: bool) -> Tensor:
    """The gradient with unit length in each latent; against it the loss falls."""
    return F.normalize(label_gradient(logits, w_plus, target), dim=2)


def second_order_direction(
    logits: Logits, w_plus: Tensor, target: bool, start: Tensor, rounds: int = 2, offset: float = OFFSET
) -> Tensor:
    """The direction in which the loss curves most, with unit length in each latent; against it the loss falls.

    Power iteration from ``start`` (shaped as ``w_plus``, such as noise) with Hessian-vector products by finite
    differences, ``(g(w + offset d) - g(w)) / offset``. Where a row has no curvature (a saturated classifier) its
    gradient stands in. For a classifier of leaky ReLUs the two agree but at the kinks.
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
    """Move each latent by ``length`` in all towards a label, in steps that each take a new direction.

    With ``start`` the directions are of second order, else of first.
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
