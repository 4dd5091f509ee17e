"""What comes between encoding and editing: each row's own generator, by a hypernetwork, by tuning, or by both."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.batching import chunk_size, in_chunks_each
from gan_core.checkpoints.files import Loaded
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.inversion.group import tune_group
from gan_core.inversion.hypernetwork import load_hypernetwork
from gan_core.inversion.locality import Perceptual
from gan_core.inversion.objective import StopReason, objective, read_losses
from gan_core.inversion.pti import Budget, Tuned, tune_pivots
from gan_core.params import ModelPaths, TuneParams
from gan_core.registry import Registry
from gan_core.rows import Progress


@dataclass(frozen=True)
class Inverted:
    """B images to refine: ``pivots [B, n_latent, w_dim]``, ``targets [B, 3, H, W]`` in [-1, 1], ``seeds`` per row.

    ``steps`` of tuning per row replace those of the parameters.
    """

    pivots: Tensor
    targets: Tensor
    seeds: Sequence[int]
    steps: Sequence[int] | None = None


class Refinement(ABC):
    """One way to give each row weights of its own.

    ``identity`` names the files that its results depend on beside the generator and the perceptual trunk.
    """

    name: ClassVar[str]

    def __init__(self, generator: Loaded[Generator], loss: Perceptual, params: TuneParams, models: ModelPaths) -> None:
        self.generator, self.loss, self.params = generator.model, loss, params
        self.identity: dict[str, Any] = {}

    @abstractmethod
    def refine(self, rows: Inverted, starts: Sequence[Tuned] | None, finished: Progress | None) -> list[Tuned]:
        """Return what becomes of each row, which begins with the weights of ``starts``, or those of the generator."""


REFINEMENTS: Registry[type[Refinement]] = Registry("refinement", "gan_core.inversion", Refinement)


@REFINEMENTS.register("pti")
class PivotalTuning(Refinement):
    """``steps`` of pivotal tuning (``gan_core.inversion.pti``), or with ``shared`` one generator for all rows."""

    name = "pti"

    def refine(self, rows: Inverted, starts: Sequence[Tuned] | None, finished: Progress | None) -> list[Tuned]:
        setting = (self.generator, rows.pivots, rows.targets, self.loss, self.params, rows.seeds)
        if self.params.shared:
            return tune_group(*setting)
        deltas = None if starts is None else [start.delta for start in starts]
        budgets = None if rows.steps is None else [Budget(steps, self.params.lr) for steps in rows.steps]
        return tune_pivots(*setting, budgets, finished, deltas)


@REFINEMENTS.register("hypernetwork")
class ByHypernetwork(Refinement):
    """The offsets of ``models.hypernetwork`` (``gan_core.inversion.hypernetwork``), in passes without gradients.

    It is the first of a chain.
    """

    name = "hypernetwork"

    def __init__(self, generator: Loaded[Generator], loss: Perceptual, params: TuneParams, models: ModelPaths) -> None:
        super().__init__(generator, loss, params, models)
        hypernetwork = load_hypernetwork(models.hypernetwork, generator)
        self.network = hypernetwork.model
        self.identity = {"hypernetwork_sha256": hypernetwork.sha256}

    @torch.no_grad()
    def refine(self, rows: Inverted, starts: Sequence[Tuned] | None, finished: Progress | None) -> list[Tuned]:
        places = torch.arange(len(rows.pivots), device=rows.pivots.device)
        size = chunk_size(self.generator.size)
        before, after, terms, *values = in_chunks_each(lambda part: self._found(rows, part), places, size)
        names = self.network.changed_names(self.generator)
        deltas = [dict(zip(names, parts, strict=True)) for parts in zip(*values, strict=True)]
        first, last = read_losses(terms.unbind(1))
        found = []
        for row, delta in enumerate(deltas):
            losses, better = [first[row], last[row]], last[row].total <= first[row].total
            image = (after if better else before)[row : row + 1]
            reason: StopReason = "steps" if better else "diverged"
            found.append(Tuned(delta if better else {}, image, self.network.steps, losses, reason))
        if finished:
            finished(len(found))
        return found

    def _found(self, rows: Inverted, places: Tensor) -> tuple[Tensor, ...]:
        """Return the pictures of some rows without and with offsets, the losses of both, and the weight differences."""
        pivots, targets = rows.pivots[places], rows.targets[places]
        images, shape = targets, self.network.input_shape
        if images.shape[2:] != shape:
            images = F.interpolate(images, shape, mode="bilinear", align_corners=False, antialias=True)
        *_, (changes, after) = self.network.passes(self.generator, images, pivots)
        before = self.generator.synthesis(pivots)
        terms = [objective(drawn, targets, self.loss, self.params)[1] for drawn in (before, after)]
        return before, after, torch.stack(terms, 1), *changes.values()


def build_refinements(
    generator: Loaded[Generator], loss: Perceptual, params: TuneParams, models: ModelPaths
) -> list[Refinement]:
    """Build what ``params.refine`` names; raises ``ParamsError`` for names in an order that makes no sense."""
    if ByHypernetwork.name in params.refine[1:]:
        raise ParamsError("tune.refine names the hypernetwork after another: it begins with the generator itself")
    if params.shared and params.refine != [PivotalTuning.name]:
        raise ParamsError("tune.shared gives all rows one generator, and tune.refine each one of its own: choose")
    return [REFINEMENTS.get(name)(generator, loss, params, models) for name in params.refine]


def refine_all(refinements: Sequence[Refinement], rows: Inverted, finished: Progress | None) -> list[Tuned]:
    """Apply refinements one after the other, each from the weights of the one before; the last calls ``finished``.

    Steps are summed. What a row's losses say is the whole way; where the last one diverged it is what it began with.
    """
    found: list[Tuned] | None = None
    for place, refinement in enumerate(refinements):
        last = place == len(refinements) - 1
        refined = refinement.refine(rows, found, finished if last else None)
        found = [_joined(*pair) for pair in zip(found, refined, strict=True)] if found else refined
    return found or []


def _joined(before: Tuned, after: Tuned) -> Tuned:
    losses = after.losses if after.stop_reason == "diverged" else before.losses + after.losses
    return replace(after, losses=losses, steps=before.steps + after.steps)
