"""What comes between encoding and editing: each row's own weights and detail, by networks, by tuning, or by both."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.batching import chunk_size, in_chunks_each
from gan_core.checkpoints.files import Loaded
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.geometry import Frame, framed_like
from gan_core.inversion.delta import RESIDUAL, as_stored, changed
from gan_core.inversion.features import check_layer, load_features, side_of
from gan_core.inversion.group import tune_group
from gan_core.inversion.hybrid import Hybrid, known_part, layer_for, refine_hybrid
from gan_core.inversion.hypernetwork import load_hypernetwork
from gan_core.inversion.locality import Perceptual
from gan_core.inversion.objective import StopReason, objective, read_losses
from gan_core.inversion.pti import Budget, Tuned, tune_pivots
from gan_core.inversion.weights import RowWeights
from gan_core.judges.perceptual import PerceptualLoss
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
    """One way to give each row weights of its own, or, where it acts ``at_layers``, maps of a layer.

    One that is ``of_squares`` can't refine pictures of another shape.
    ``identity`` says what its results depend on beside the generator, the perceptual trunk and the parameters: the
    hashes of files, and a version where the same files once gave others.
    """

    name: ClassVar[str]
    at_layers: ClassVar[bool] = False
    of_squares: ClassVar[bool] = False

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


class InPasses(Refinement):
    """A network that changes rows in ``passes`` without gradients; a row that it makes worse stays as it was.

    ``names`` are those of what it finds for a row, as ``delta`` has them. One whose results are ``final`` begins with
    weights as they are stored, and finds what can be stored.
    """

    passes: int
    names: Sequence[str]
    final = False

    @torch.no_grad()
    def refine(self, rows: Inverted, starts: Sequence[Tuned] | None, finished: Progress | None) -> list[Tuned]:
        begun = [{}] * len(rows.pivots) if starts is None else [self._kept(start.delta) for start in starts]
        before, after, terms, *values = self._all(rows, begun)
        deltas = [dict(zip(self.names, parts, strict=True)) for parts in zip(*values, strict=True)]
        first, last = read_losses(terms.unbind(1))
        found = []
        for row, delta in enumerate(deltas):
            losses, better = [first[row], last[row]], last[row].total <= first[row].total
            image = (after if better else before)[row : row + 1]
            reason: StopReason = "steps" if better else "diverged"
            kept = begun[row] | delta if better else begun[row]
            found.append(Tuned(kept, image, self.passes, losses, reason, self.final))
        if finished:
            finished(len(found))
        return found

    @abstractmethod
    def drawn(self, pivots: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """Return the pictures ``[B, 3, S, S]`` without and with what is found, and what is found, by ``names``."""

    def _kept(self, delta: dict[str, Tensor]) -> dict[str, Tensor]:
        return as_stored(delta, self.params.persist == "full") if self.final else delta

    def _all(self, rows: Inverted, begun: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, ...]:
        """Return the pictures, the losses of both ``[B, 2, 3]``, and what is found; tuned rows are drawn one by one."""
        places = torch.arange(len(rows.pivots), device=rows.pivots.device)
        if not any(begun):
            return in_chunks_each(lambda part: self._found(rows, part), places, chunk_size(self.generator.size))
        parts = []
        for place, delta in zip(places.split(1), begun, strict=True):
            with changed(self.generator, delta):
                parts.append(self._found(rows, place))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def _found(self, rows: Inverted, places: Tensor) -> tuple[Tensor, ...]:
        pivots, targets = rows.pivots[places], rows.targets[places]
        before, after, *values = self.drawn(pivots, targets)
        terms = [objective(drawn, targets, self.loss, self.params)[1] for drawn in (before, after)]
        return before, after, torch.stack(terms, 1), *values


@REFINEMENTS.register("hypernetwork")
class ByHypernetwork(InPasses):
    """The offsets of ``models.hypernetwork`` (``gan_core.inversion.hypernetwork``), the first of a chain."""

    name = "hypernetwork"

    def __init__(self, generator: Loaded[Generator], loss: Perceptual, params: TuneParams, models: ModelPaths) -> None:
        super().__init__(generator, loss, params, models)
        hypernetwork = load_hypernetwork(models.hypernetwork, generator)
        self.network, self.passes = hypernetwork.model, hypernetwork.model.steps
        self.names = self.network.changed_names(self.generator)
        self.identity = {"hypernetwork_sha256": hypernetwork.sha256}

    def drawn(self, pivots: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        images, shape = targets, self.network.input_shape
        if images.shape[2:] != shape:
            images = F.interpolate(images, shape, mode="bilinear", align_corners=False, antialias=True)
        *_, (changes, after) = self.network.passes(self.generator, images, pivots)
        return self.generator.synthesis(pivots), after, *changes.values()


@REFINEMENTS.register("features")
class ByFeatures(InPasses):
    """The detail that ``models.features`` puts back (``gan_core.inversion.features``), the last of a chain.

    A row keeps its residual, from which each of its edits gets detail of its own. Its picture is drawn from what is
    stored, so that it need not be drawn again.
    """

    name = "features"
    at_layers = True
    of_squares = True
    final = True
    passes = 1
    names = (RESIDUAL,)

    def __init__(self, generator: Loaded[Generator], loss: Perceptual, params: TuneParams, models: ModelPaths) -> None:
        super().__init__(generator, loss, params, models)
        features = load_features(models.features, generator)
        self.network = features.model
        self.identity = {"features_sha256": features.sha256, "features_version": "2"}

    def drawn(self, pivots: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        return self.network.detailed(self.generator, pivots, targets, self._stored)

    def _stored(self, residuals: Tensor) -> Tensor:
        rows = [self._kept({RESIDUAL: residual})[RESIDUAL] for residual in residuals]
        return torch.stack(rows).to(residuals.device)


@REFINEMENTS.register("hybrid")
class ByHybrid(Refinement):
    """Weights where the pivot is near, a layer's maps elsewhere (``gan_core.inversion.hybrid``), row after row.

    Weights are tuned from ``min_resolution`` up, or from that layer up.
    """

    name = "hybrid"
    at_layers = True
    of_squares = True

    def __init__(self, generator: Loaded[Generator], loss: Perceptual, params: TuneParams, models: ModelPaths) -> None:
        super().__init__(generator, loss, params, models)
        assert isinstance(loss, PerceptualLoss)
        layer = layer_for(self.generator.size)
        check_layer(self.generator, layer)
        self.trunk, weights = loss, (params.l2_weight, params.perceptual_weight)
        self.recipe = Hybrid(layer, l2_weight=weights[0] / 3, perceptual_weight=weights[1])  # errors are means here
        self.resolution = min(params.min_resolution, side_of(layer))

    def refine(self, rows: Inverted, starts: Sequence[Tuned] | None, finished: Progress | None) -> list[Tuned]:
        found = []
        for row, pair in enumerate(zip(rows.pivots.split(1), rows.targets.split(1), strict=True)):
            found.append(self._one(*pair, {} if starts is None else starts[row].delta))
            if finished:
                finished(1)
        return found

    def _one(self, pivot: Tensor, target: Tensor, start: dict[str, Tensor]) -> Tuned:
        with torch.no_grad(), changed(self.generator, start):
            before = self.generator.synthesis(pivot)
        mask = known_part(framed_like(before, target), target, self.trunk)
        weights = RowWeights(self.generator, self.resolution, 1, starts=[start])
        refined = refine_hybrid(weights, pivot, target, mask, self.trunk, self.recipe)
        delta = start | refined.delta
        with torch.no_grad(), changed(self.generator, delta), refined.blend.injected(self.generator):
            after = self.generator.synthesis(pivot)
        ends = [objective(drawn, target, self.loss, self.params)[1] for drawn in (before, after)]
        ((first,), (last,)) = read_losses(ends)
        if not last.total <= first.total:
            return Tuned(start, before, self.recipe.steps, [first, last], "diverged")
        return Tuned(delta | refined.blend.as_delta(), after, self.recipe.steps, [first, last], "steps")


def build_refinements(
    generator: Loaded[Generator], loss: Perceptual, params: TuneParams, models: ModelPaths, frame: Frame
) -> list[Refinement]:
    """Build what ``params.refine`` names, for pictures that are the ``frame`` of what the generator draws.

    Raises ``ParamsError`` for names in an order that makes no sense, for parameters that don't go with them, and for a
    frame that one of them can't refine.
    """
    if ByHypernetwork.name in params.refine[1:]:
        raise ParamsError("tune.refine names the hypernetwork after another: it begins with the generator itself")
    for name in (ByFeatures.name, ByHybrid.name):
        if name in params.refine[:-1]:
            raise ParamsError(f"tune.refine names another after {name}, which keeps maps of a layer: put {name} last")
    if params.locality_weight and PivotalTuning.name not in params.refine:
        raise ParamsError("tune.locality_weight is of pti, which tune.refine doesn't name: set it to 0, or name pti")
    if {PivotalTuning.name, ByHybrid.name} & set(params.refine):
        if not params.l2_weight and not params.perceptual_weight:
            raise ParamsError(
                "tune.l2_weight and tune.perceptual_weight are both 0: nothing would be learnt, so set one"
            )
        try:
            generator.model.upper_parameters(params.min_resolution)
        except ParamsError as error:
            raise ParamsError(f"tune.min_resolution: {error}") from None
    if params.shared and params.refine != [PivotalTuning.name]:
        raise ParamsError("tune.shared gives all rows one generator, and tune.refine each one of its own: choose")
    for name in params.refine:
        if REFINEMENTS.get(name).of_squares and not frame.is_square:
            raise ParamsError(
                f"tune.refine: {name} needs square pictures, and this encoder's are {frame.width} wide and "
                f"{frame.height} high: choose another tune.refine, or an encoder with square input"
            )
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
