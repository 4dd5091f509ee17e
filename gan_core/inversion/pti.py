"""Pivotal tuning (Roich et al. 2021): fine-tune a generator per image so that it draws the image at its pivot."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gan_core.batching import in_chunks_each
from gan_core.device import computing
from gan_core.generators.base import Generator
from gan_core.inversion.locality import CHUNK, Locality, Perceptual
from gan_core.inversion.schedule import ramp
from gan_core.inversion.weights import RowWeights
from gan_core.params import TuneParams
from gan_core.precision import set_precision
from gan_core.rows import Progress

StopReason = Literal["steps", "perceptual", "diverged"]


class Losses(NamedTuple):
    """The objective at one step and its two unweighted terms."""

    total: float
    l2: float
    perceptual: float


class Budget(NamedTuple):
    """The budget of one image: its steps and its initial learning rate."""

    steps: int
    lr: float


@dataclass(frozen=True)
class Tuned:
    """The result of tuning for one image.

    ``delta`` maps the names of changed parameters to tuned minus original weights, and ``image [1, 3, H, W]`` around
    [-1, 1] is the tuned reconstruction. ``losses`` has one entry before each step and one at the end. If tuning
    diverged (to NaN, or above the initial objective), ``delta`` is empty and ``image`` that of the original generator.
    """

    delta: dict[str, Tensor]
    image: Tensor
    steps: int
    losses: list[Losses]
    stop_reason: StopReason


def tune_pivots(
    generator: Generator,
    pivots: Tensor,
    targets: Tensor,
    loss: Perceptual,
    params: TuneParams,
    seeds: Sequence[int],
    budgets: Sequence[Budget] | None = None,
    finished: Progress | None = None,
) -> list[Tuned]:
    """Minimise eq. 2 (eq. 5 if ``params.locality_weight`` is set) by Adam for each row; ``generator`` is not changed.

    Each row has its own copy of the weights at ``params.min_resolution`` pixels and above (4, all weights, as
    published). ``pivots [B, n_latent, w_dim]`` are fixed, ``targets [B, 3, H, W]`` are in [-1, 1], and ``seeds``
    determine the samples of the locality term. A row stops after its steps, or before a step if its perceptual distance
    is at most ``params.stop_perceptual`` (0: never); the other rows continue. ``budgets`` replaces ``params.steps`` and
    ``params.lr`` per row. ``finished`` is called with 1 when a row stops. Rows affect each other by rounding only.
    """
    budgets = budgets or [Budget(params.steps, params.lr)] * len(pivots)
    return _Tuning(generator, pivots, targets, loss, params, seeds, budgets, finished).run()


def objective(images: Tensor, targets: Tensor, loss: Perceptual, params: TuneParams) -> tuple[Tensor, Tensor]:
    """Return the weighted sum ``[B]`` of mean squared error and perceptual distance, and with it its terms ``[B, 3]``.

    ``images`` and ``targets`` are ``[B, 3, H, W]`` in [-1, 1].
    """
    l2 = (images - targets).square().flatten(1).mean(1)
    needed = params.perceptual_weight or params.stop_perceptual
    perceptual = loss(images, targets) if needed else torch.zeros_like(l2)
    total = params.l2_weight * l2 + params.perceptual_weight * perceptual
    return total, torch.stack([total, l2, perceptual], 1).detach()


def read_losses(terms: Sequence[Tensor]) -> list[list[Losses]]:
    """Return the losses of the rows of each of ``terms``, ``[B, 3]`` of ``objective``."""
    return [[Losses(*row) for row in step] for step in torch.stack(list(terms)).tolist()]


def up_to_first_broken(losses: list[Losses]) -> list[Losses]:
    """Return the losses up to the first one that is not finite: what comes after it is of a row that has diverged."""
    broken = next((i for i, loss in enumerate(losses) if not math.isfinite(loss.total)), len(losses))
    return losses[: broken + 1]


def stop_reason(losses: list[Losses], steps: int, threshold: float) -> StopReason | None:
    """Return why a row stops before the next step, or ``None`` if it continues."""
    if not math.isfinite(losses[-1].total):
        return "diverged"
    if threshold and losses[-1].perceptual <= threshold:
        return "perceptual"
    return "steps" if len(losses) > steps else None


def learning_rate(budget: Budget, step: int, rampdown: float) -> float:
    """Return the rate of step ``step`` (from 0): constant, then a cosine to 0 over the last share ``rampdown``."""
    return budget.lr * ramp(step / budget.steps, rampdown)


class _Tuning:
    """The state of a batch: the rows that are still tuned, their weights, and the losses of each row.

    ``done`` counts the steps, and ``unread`` holds the losses of the last ones, which the host has not looked at yet.

    A single row is duplicated, because convolutions round differently at batch size 1.
    """

    def __init__(
        self,
        generator: Generator,
        pivots: Tensor,
        targets: Tensor,
        loss: Perceptual,
        params: TuneParams,
        seeds: Sequence[int],
        budgets: Sequence[Budget],
        finished: Progress | None,
    ) -> None:
        self.generator, self.pivots, self.targets = generator, pivots, targets
        self.finished = finished
        self.loss, self.params, self.budgets = loss, params, list(budgets)
        self.rows = list(range(len(pivots)))
        self.losses: list[list[Losses]] = [[] for _ in self.rows]
        self.unread: list[Tensor] = []
        self.done = 0
        self.found: dict[int, Tuned] = {}
        worker = in_precision(generator, params)
        places = _pad_single_row(self.rows)
        self.codes, self.wanted = pivots[places], targets[places]
        self.below = _lower(worker, self.codes, params.min_resolution)
        self.weights = RowWeights(worker, params.min_resolution, len(places), params.betas)
        self.locality: Locality | None = None
        if params.locality_weight:
            streams = [seeds[place] for place in places]
            self.locality = Locality(worker, self.codes, loss, params.locality_alpha, streams)

    @torch.enable_grad()
    def run(self) -> list[Tuned]:
        while True:
            images = self.weights.draw(self.below, self.codes)
            totals, terms = objective(images, self.wanted, self.loss, self.params)
            self.unread.append(terms)
            going = self._judge(images.detach()) if self._due() else list(range(len(self.rows)))
            if not going:
                break
            self._move(totals, going)
        return [self.found[row] for row in range(len(self.pivots))]

    def _due(self) -> bool:
        """Tell whether a row may have to stop now; otherwise the device is not waited for."""
        ended = any(self.budgets[row].steps <= self.done for row in self.rows)
        return ended or bool(self.params.stop_perceptual) or len(self.unread) >= computing().look_every

    def _judge(self, images: Tensor) -> list[int]:
        """Read the losses, store the results of rows that stop, and return the places of the other rows."""
        going = []
        steps, self.unread = read_losses(self.unread), []
        for place, row in enumerate(self.rows):
            self.losses[row] += up_to_first_broken([step[place] for step in steps])
            reason = stop_reason(self.losses[row], self.budgets[row].steps, self.params.stop_perceptual)
            if reason:
                self.found[row] = self._outcome(place, row, images[place : place + 1], reason)
                if self.finished:
                    self.finished(1)
            else:
                going.append(place)
        return going

    def _move(self, totals: Tensor, going: list[int]) -> None:
        totals[going].sum().backward()
        if len(going) < len(self.rows):
            self._compact(going)
        if self.locality:
            (self.params.locality_weight * self.locality(self.weights).sum()).backward()
        rows = _pad_single_row(self.rows)
        rates = [learning_rate(self.budgets[r], self.done, self.params.lr_rampdown) for r in rows]
        self.weights.step(torch.tensor(rates))
        self.done += 1

    def _compact(self, going: list[int]) -> None:
        """Drop the rows that have stopped."""
        self.rows = [self.rows[place] for place in going]
        places = _pad_single_row(going)
        self.codes, self.wanted = self.codes[places], self.wanted[places]
        self.below = tuple(part[places] for part in self.below)
        self.weights.keep(places)
        if self.locality:
            self.locality.keep(places)

    def _outcome(self, place: int, row: int, image: Tensor, reason: StopReason) -> Tuned:
        losses = self.losses[row]
        if reason == "diverged" or losses[-1].total > losses[0].total:
            with torch.no_grad():
                image = self.generator.synthesis(self.pivots[row : row + 1])
            return Tuned({}, image, len(losses) - 1, losses, "diverged")
        return Tuned(self.weights.delta(place), image, len(losses) - 1, losses, reason)


def in_precision(generator: Generator, params: TuneParams) -> Generator:
    """Return a frozen copy of the generator whose convolutions run in ``params.precision``."""
    worker = copy.deepcopy(generator).eval().requires_grad_(False)
    set_precision(worker, params.precision)
    return worker


@torch.no_grad()
def _lower(generator: Generator, codes: Tensor, resolution: int) -> tuple[Tensor, ...]:
    return in_chunks_each(lambda part: generator.lower(part, resolution), codes, CHUNK)


def _pad_single_row(places: list[int]) -> list[int]:
    return places * 2 if len(places) == 1 else places
