"""Pivotal tuning (Roich et al. 2021): fine-tune a generator per image so that it draws the image at its pivot."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gan_core.batching import in_chunks_each
from gan_core.device import computing
from gan_core.generators.base import Generator
from gan_core.inversion.ahead import StepAhead
from gan_core.inversion.delta import changed
from gan_core.inversion.locality import CHUNK, Locality, Perceptual
from gan_core.inversion.objective import Losses, StopReason, objective, read_losses, stop_reason, up_to_the_end
from gan_core.inversion.schedule import ramp
from gan_core.inversion.weights import RowWeights
from gan_core.params import TuneParams
from gan_core.precision import set_precision
from gan_core.rows import Progress
from gan_core.stopping import check_stop


class Budget(NamedTuple):
    """The budget of one image: its steps at most, and its initial learning rate."""

    steps: int
    lr: float


@dataclass(frozen=True)
class Tuned:
    """The result of tuning for one image.

    ``delta`` maps the names of changed parameters to tuned minus original weights, and ``image [1, 3, H, W]`` around
    [-1, 1] is the tuned reconstruction. ``steps`` is how many were taken. ``losses`` has one entry before each step and
    one at the end. ``stop_reason`` is ``"steps"`` where all were taken, and ``"perceptual"`` where the image was good
    enough before. If tuning diverged (to NaN, or above the initial objective), it is ``"diverged"``, and ``delta`` and
    ``image`` are those that it began with: nothing, and that of the original generator. ``as_stored`` tells whether
    ``image`` is what ``delta`` gives after it was packed.
    """

    delta: dict[str, Tensor]
    image: Tensor
    steps: int
    losses: list[Losses]
    stop_reason: StopReason
    as_stored: bool = False

    @property
    def reached(self) -> float:
        """The perceptual distance of what the row ends with."""
        return self.losses[0 if self.stop_reason == "diverged" else -1].perceptual


def tune_pivots(
    generator: Generator,
    pivots: Tensor,
    targets: Tensor,
    loss: Perceptual,
    params: TuneParams,
    seeds: Sequence[int],
    budgets: Sequence[Budget] | None = None,
    finished: Progress | None = None,
    starts: Sequence[Mapping[str, Tensor]] | None = None,
) -> list[Tuned]:
    """Pivotal tuning (Roich et al. 2021): fit a generator to each row's target by Adam; ``generator`` is not changed.

    Minimises eq. 2 of the paper, or eq. 5 if ``params.locality_weight`` is set. Each row has its own copy of the
    weights at ``params.min_resolution`` pixels and above (4, all weights, as published).
    ``pivots [B, n_latent, w_dim]`` are fixed, ``targets [B, 3, H, W]`` are in [-1, 1], and ``seeds`` determine the
    samples of the locality term. ``loss`` takes two batches of images in [-1, 1] and returns their perceptual distances
    ``[B]``, as ``load_perceptual`` gives one. A row stops after its steps, or before a step if its perceptual distance
    is at most ``params.stop_perceptual`` (0: never); the other rows continue. ``budgets`` replaces ``params.steps`` and
    ``params.lr``: a ``Budget`` per row. ``finished`` is called with 1 when a row stops. ``starts`` are weight
    differences that each row begins with, instead of the generator's weights. Rows affect each other by rounding only.
    Raises ``ValueError`` for pivots of another shape, and if one of these is of another number of rows.
    """
    if pivots.shape[1:] != (generator.n_latent, generator.w_dim):
        raise ValueError(f"pivots are {list(pivots.shape)}, [B, {generator.n_latent}, {generator.w_dim}] are expected")
    budgets = budgets or [Budget(params.steps, params.lr)] * len(pivots)
    given = {"targets": len(targets), "seeds": len(seeds), "budgets": len(budgets)}
    given |= {} if starts is None else {"starts": len(starts)}
    if other := {name: count for name, count in given.items() if count != len(pivots)}:
        raise ValueError(f"{len(pivots)} pivots, but {other}: give one for each row")
    if not len(pivots):
        return []
    return _Tuning(generator, pivots, targets, loss, params, seeds, budgets, finished, starts).run()


def learning_rate(budget: Budget, step: int, rampdown: float) -> float:
    """Return the rate of step ``step`` (from 0): constant, then a cosine to 0 over the last share ``rampdown``."""
    return budget.lr * ramp(step / budget.steps, rampdown)


class _Tuning:
    """The state of a batch: the rows that are still tuned, their weights, and the losses of each row.

    ``done`` counts the steps, and ``unread`` holds the losses of the last ones, which the host has not looked at yet:
    on the CPU it judges the rows before every step, and a device runs ahead of it.

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
        starts: Sequence[Mapping[str, Tensor]] | None,
    ) -> None:
        self.starts = starts or [{}] * len(pivots)
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
        begun = [self.starts[place] for place in places]
        self.below = _lower(worker, self.codes, params.min_resolution, begun)
        self.weights = RowWeights(worker, params.min_resolution, len(places), params.betas, begun)
        self.locality: Locality | None = None
        if params.locality_weight:
            streams = [seeds[place] for place in places]
            self.locality = Locality(worker, self.codes, loss, params.locality_alpha, streams)

    @torch.enable_grad()
    def run(self) -> list[Tuned]:
        if computing().look_every > 1:
            self._run_ahead(computing().look_every)
        else:
            self._run_watched()
        return [self.found[row] for row in range(len(self.pivots))]

    def _run_watched(self) -> None:
        while True:
            check_stop()
            images = self.weights.draw(self.below, self.codes)
            totals, terms = objective(images, self.wanted, self.loss, self.params)
            self.unread.append(terms)
            going = self._judge(images.detach())
            if not going:
                break
            self._move(totals, going)

    def _run_ahead(self, look_every: int) -> None:
        """Take whole steps, in which rows that have to stop stay as they are, and look at them seldom."""
        step = self._step_ahead()
        while True:
            check_stop()
            step(self._rates())
            self.unread.append(step.terms.clone())
            if self._due(look_every):
                going = self._judge(step.images.clone())
                if len(going) < len(self.rows):
                    step.repeated.forget()
                    if not going:
                        return
                    self._compact(going)
                    step = self._step_ahead()
            self.done += 1

    def _step_ahead(self) -> StepAhead:
        alike = len({self.budgets[row] for row in self.rows}) == 1 and not self.params.stop_perceptual
        given = (self.weights, self.below, self.codes, self.wanted, self.loss, self.params, self.locality)
        return StepAhead(*given, rows=len(self.rows), alike=alike)

    def _due(self, look_every: int) -> bool:
        """Tell whether a row has taken all its steps, or may have stopped before."""
        ended = any(self.budgets[row].steps <= self.done for row in self.rows)
        return ended or (bool(self.params.stop_perceptual) and len(self.unread) >= look_every)

    def _rates(self) -> list[float]:
        """The rates of the next step, one a place; 0 for rows that have taken all theirs."""
        budgets = [self.budgets[row] for row in _pad_single_row(self.rows)]
        return [learning_rate(b, self.done, self.params.lr_rampdown) if self.done < b.steps else 0.0 for b in budgets]

    def _judge(self, images: Tensor) -> list[int]:
        """Read the losses, store the results of rows that stop, and return the places of the other rows."""
        going, ended = [], {}
        steps, self.unread = read_losses(self.unread), []
        for place, row in enumerate(self.rows):
            seen = self.losses[row] + [step[place] for step in steps]
            self.losses[row] = up_to_the_end(seen, self.params.stop_perceptual)
            reason = stop_reason(self.losses[row], self.budgets[row].steps, self.params.stop_perceptual)
            if reason:
                ended[place] = reason
            else:
                going.append(place)
        self._store(ended, images)
        return going

    def _store(self, ended: dict[int, StopReason], images: Tensor) -> None:
        deltas = self.weights.deltas(list(ended)) if ended else []
        for (place, reason), delta in zip(ended.items(), deltas, strict=True):
            row = self.rows[place]
            self.found[row] = self._outcome(delta, row, images[place : place + 1], reason)
            if self.finished:
                self.finished(1)

    def _move(self, totals: Tensor, going: list[int]) -> None:
        totals[going].sum().backward()
        if len(going) < len(self.rows):
            self._compact(going)
        if self.locality:
            (self.params.locality_weight * self.locality(self.weights).sum()).backward()
        self.weights.step(torch.tensor(self._rates()))
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

    def _outcome(self, delta: dict[str, Tensor], row: int, image: Tensor, reason: StopReason) -> Tuned:
        losses = self.losses[row]
        if reason == "diverged" or losses[-1].total > losses[0].total:
            start = dict(self.starts[row])
            with torch.no_grad(), changed(self.generator, start):
                image = self.generator.synthesis(self.pivots[row : row + 1])
            return Tuned(start, image, len(losses) - 1, losses, "diverged")
        below = {name: d for name, d in self.starts[row].items() if name not in self.weights.values}
        return Tuned(below | delta, image, len(losses) - 1, losses, reason)


def in_precision(generator: Generator, params: TuneParams) -> Generator:
    """Return a frozen copy of the generator whose convolutions run in ``params.precision``."""
    worker = copy.deepcopy(generator).eval().requires_grad_(False)
    set_precision(worker, params.precision)
    return worker


@torch.no_grad()
def _lower(
    generator: Generator, codes: Tensor, resolution: int, starts: Sequence[Mapping[str, Tensor]]
) -> tuple[Tensor, ...]:
    """Compute the frozen part below ``resolution`` pixels, of each row with the weights that it begins with."""
    if not any(starts):
        return in_chunks_each(lambda part: generator.lower(part, resolution), codes, CHUNK)
    rows = []
    for code, start in zip(codes.split(1), starts, strict=True):
        with changed(generator, start):
            rows.append(generator.lower(code, resolution))
    return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))


def _pad_single_row(places: list[int]) -> list[int]:
    return places * 2 if len(places) == 1 else places
