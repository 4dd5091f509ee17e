"""What tuning minimises (Roich et al. 2021, eq. 2), and when a row has had enough of it."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gan_core.geometry import framed_like
from gan_core.inversion.locality import Perceptual
from gan_core.params import TuneParams

StopReason = Literal["steps", "perceptual", "diverged"]


class Losses(NamedTuple):
    """The objective at one step and its two unweighted terms: mean squared error and perceptual distance."""

    total: float
    l2: float
    perceptual: float


def objective(images: Tensor, targets: Tensor, loss: Perceptual, params: TuneParams) -> tuple[Tensor, Tensor]:
    """Return the weighted sum ``[B]`` of mean squared error and perceptual distance, and with it its terms ``[B, 3]``.

    ``images [B, 3, S, S]`` and ``targets [B, 3, H, W]`` are in [-1, 1]. Targets that are smaller are compared with the
    frame of their proportion, averaged down to their size.
    """
    images = framed_like(images, targets)
    l2 = (images - targets).square().flatten(1).mean(1)
    perceptual = loss(images, targets) if is_compared(params) else torch.zeros_like(l2)
    total = params.l2_weight * l2 + params.perceptual_weight * perceptual
    return total, torch.stack([total, l2, perceptual], 1).detach()


def is_compared(params: TuneParams) -> bool:
    """Tell whether tuning computes the perceptual distance at all."""
    return bool(params.perceptual_weight or params.stop_perceptual)


def read_losses(terms: Sequence[Tensor]) -> list[list[Losses]]:
    """Return the losses of the rows of each of ``terms``, ``[B, 3]`` of ``objective``."""
    return [[Losses(*row) for row in step] for step in torch.stack(list(terms)).tolist()]


def up_to_the_end(losses: list[Losses], threshold: float) -> list[Losses]:
    """Return the losses up to the first that isn't finite or is good enough: the row stays as it is from there on."""
    ends = (i for i, loss in enumerate(losses) if not math.isfinite(loss.total) or _reached(loss, threshold))
    return losses[: next(ends, len(losses)) + 1]


def stop_reason(losses: list[Losses], steps: int, threshold: float) -> StopReason | None:
    """Return why a row stops before the next step, or ``None`` if it continues."""
    if not math.isfinite(losses[-1].total):
        return "diverged"
    if _reached(losses[-1], threshold):
        return "perceptual"
    return "steps" if len(losses) > steps else None


def _reached(loss: Losses, threshold: float) -> bool:
    return bool(threshold) and loss.perceptual <= threshold
