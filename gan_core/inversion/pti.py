"""Pivotal tuning (Roich et al. 2021): bend the generator until it draws one image at its pivot."""

import copy
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gan_core.generators.base import Generator
from gan_core.inversion.locality import Locality, Perceptual
from gan_core.params import TuneParams

StopReason = Literal["steps", "perceptual", "diverged"]


class Losses(NamedTuple):
    """The objective at one step and its two unweighted terms."""

    total: float
    l2: float
    perceptual: float


@dataclass(frozen=True)
class Tuned:
    """What tuning found for one image.

    ``delta`` maps parameter names to tuned minus original weights (only those that moved) and ``image [1, 3, H, W]`` is
    the tuned reconstruction. ``losses`` has one entry before every step and one at the end. If tuning diverged (to NaN,
    or to more than it started with), the generator is left as it was: ``delta`` is empty and ``image`` the pivot's own.
    """

    delta: dict[str, Tensor]
    image: Tensor
    steps: int
    losses: list[Losses]
    stop_reason: StopReason


def tune_pivots(
    generator: Generator, pivots: Tensor, targets: Tensor, loss: Perceptual, params: TuneParams, seeds: list[int]
) -> list[Tuned]:
    """Tune a copy of ``generator`` to every row of ``pivots [B, n_latent, w_dim]`` and ``targets [B, 3, H, W]``.

    ``seeds`` decide the samples of the locality term, one stream a row.
    """
    rows = zip(pivots.split(1), targets.split(1), seeds, strict=True)
    return [tune_pivot(generator, pivot, target, loss, params, seed) for pivot, target, seed in rows]


def tune_pivot(
    generator: Generator, pivot: Tensor, target: Tensor, loss: Perceptual, params: TuneParams, seed: int = 0
) -> Tuned:
    """Minimise eq. 2 (with ``params.locality_weight`` eq. 5) over weights by Adam; ``generator`` stays as it is.

    The weights are those of ``params.min_resolution`` pixels and above; the authors tune all of them (4).
    ``pivot [1, n_latent, w_dim]`` is fixed; ``target [1, 3, H, W]`` in [-1, 1]; ``loss`` gives one distance a row.
    Stops after ``params.steps``, or before a step whose perceptual distance is at most ``params.stop_perceptual`` (if
    that is not 0).
    """
    tuned = copy.deepcopy(generator).eval().requires_grad_(False)
    weights = [p.requires_grad_(True) for p in tuned.tail_parameters(params.min_resolution).values()]
    optimiser = torch.optim.Adam(weights, params.lr, fused=True)
    draw = tuned.tail(pivot, params.min_resolution)
    locality = Locality(generator, pivot, loss, params, seed) if params.locality_weight else None
    losses: list[Losses] = []
    while True:
        with torch.enable_grad():
            image = draw()
            total, current = objective(image, target, loss, params)
            losses.append(current)
            reason = stop_reason(losses, params)
            if reason:
                break
            optimiser.zero_grad()
            (total + locality(tuned) if locality else total).backward()
        optimiser.step()
    return _outcome(generator, tuned, pivot, image.detach(), losses, reason)


def objective(image: Tensor, target: Tensor, loss: Perceptual, params: TuneParams) -> tuple[Tensor, Losses]:
    """Weighted sum of mean squared error and perceptual distance, with its terms."""
    l2 = (image - target).square().mean()
    perceptual = loss(image, target).mean() if params.perceptual_weight or params.stop_perceptual else torch.zeros(())
    total = params.l2_weight * l2 + params.perceptual_weight * perceptual
    return total, Losses(total.item(), l2.item(), perceptual.item())


def stop_reason(losses: list[Losses], params: TuneParams) -> StopReason | None:
    """Say why to stop before the next step, or ``None`` to go on."""
    if not math.isfinite(losses[-1].total):
        return "diverged"
    if params.stop_perceptual and losses[-1].perceptual <= params.stop_perceptual:
        return "perceptual"
    return "steps" if len(losses) > params.steps else None


def _outcome(
    generator: Generator, tuned: Generator, pivot: Tensor, image: Tensor, losses: list[Losses], reason: StopReason
) -> Tuned:
    steps = len(losses) - 1
    if reason == "diverged" or losses[-1].total > losses[0].total:
        with torch.no_grad():
            return Tuned({}, generator.synthesis(pivot), steps, losses, "diverged")
    pairs = zip(generator.named_parameters(), tuned.parameters(), strict=True)
    moved = {name: after.detach() - before.detach() for (name, before), after in pairs}
    return Tuned({name: delta for name, delta in moved.items() if delta.any()}, image, steps, losses, reason)
