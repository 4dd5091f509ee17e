"""Measures of edits (Aoshima and Matsubara 2023, section 5): commutativity, side effects and identity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import torch
from torch import Tensor

from gan_core.device import place
from gan_core.generators.base import Generator
from gan_core.judges.moves import direction_with_room, score_move
from gan_core.judges.scorers import Scored, Scorers
from gan_core.paths.naming import score_codes
from gan_core.paths.stored import SemanticPaths

NOTICED = 1e-3
"""The share of its range below which an edit doesn't change its attribute: the rest would be divided by rounding."""
ABLE = 1 / 3
"""The share of another method's move below which a method is unable to make it; of portraits and digits all make it."""


@dataclass(frozen=True)
class Bench:
    """What is measured: paths, and codes ``[B, width]`` and their scores."""

    paths: SemanticPaths
    generator: Generator
    scorers: Scorers
    codes: Tensor
    start: Scored
    seen: dict[str, Scored] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: SemanticPaths, generator: Generator, scorers: Scorers, codes: Tensor) -> "Bench":
        """Score the codes as they are."""
        return cls(paths, generator, scorers, codes, score_codes(paths, generator, codes, scorers))

    def signs(self, name: str) -> Tensor:
        """Which way each code has room to move, ``[B]`` of +1 and -1."""
        return direction_with_room(self.start, self.scorers.names.index(name))

    def edited(self, *moves: tuple[str, Tensor]) -> Scored:
        """Score the codes after moves one after the other, each by strengths ``[B]``."""
        codes = self.codes
        for name, strengths in moves:
            codes = self.paths.edit(codes, {name: strengths})
        return score_codes(self.paths, self.generator, codes, self.scorers)

    def alone(self, name: str) -> Scored:
        """Score the codes after one edit of strength 1, each to the side where it has room; once for each edit."""
        if name not in self.seen:
            self.seen[name] = self.edited((name, self.signs(name)))
        return self.seen[name]

    def change(self, faces: Scored, name: str, since: Scored | None = None) -> Tensor:
        """Absolute change of an attribute since the start (or ``since``), ``[B]``, in shares of its range."""
        column = self.scorers.names.index(name)
        return faces.change(since or self.start)[:, column].abs()


@torch.no_grad()
def commutativity_errors(bench: Bench, first: str, second: str) -> dict[str, Tensor]:
    """Return how far two edits are from commuting, each ``[B]`` in % of the attribute's mean change by its own edit.

    Both edits have strength 1. ``order/<attribute>`` is its difference between first-then-second and second-then-first.
    ``undo/<attribute>`` is its difference from the start after first, second, minus first, minus second. They are NaN
    for an attribute that its own edit changes by less than ``NOTICED``.
    """
    one, two = (first, bench.signs(first)), (second, bench.signs(second))
    forward, backward = bench.edited(one, two), bench.edited(two, one)
    undone = bench.edited(one, two, (first, -one[1]), (second, -two[1]))
    errors = {}
    for name in (first, second):
        own = _noticed(bench.change(bench.alone(name), name).mean())
        errors[f"order/{name}"] = 100 * bench.change(forward, name, since=backward) / own
        errors[f"undo/{name}"] = 100 * bench.change(undone, name) / own
    return errors


@torch.no_grad()
def changes(bench: Bench) -> tuple[Tensor, Tensor]:
    """Return the mean absolute changes ``[edits, names]`` of all named attributes by each edit, and identity errors.

    Identity errors ``[edits, B]`` are ``100 (1 - cosine)`` with the start. Edits and attributes are in the order of
    ``bench.paths.named``.
    """
    rows, lost = [], []
    for name in bench.paths.named:
        faces = bench.alone(name)
        rows.append(torch.stack([bench.change(faces, other).mean() for other in bench.paths.named]))
        lost.append(100 * (1 - (faces.identity * bench.start.identity).sum(1)))
    return torch.stack(rows), torch.stack(lost)


def side_effect_matrix(mean_changes: Tensor) -> Tensor:
    """Return the change of attribute l by the edit of k in % of its change by its own edit (diagonal: 100).

    ``mean_changes`` and the result are ``[edits, attributes]``. Attributes that their own edit changes by less than
    ``NOTICED`` are NaN.
    """
    return 100 * mean_changes / _noticed(mean_changes.diagonal())[None, :]


def _noticed(own: Tensor) -> Tensor:
    return own.where(own >= NOTICED, math.nan)


@torch.no_grad()
def mean_errors(bench: Bench) -> dict[str, float]:
    """Return the means over pairs, attributes and codes, in %.

    ``order`` and ``undo`` are those of ``commutativity_errors``, ``side_effects`` those off the diagonal of
    ``side_effect_matrix``, and ``identity`` is the identity error. What is NaN is left out, and so is a measure for
    which nothing is left.
    """
    errors: dict[str, list[float]] = {"order": [], "undo": []}
    for first, second in combinations(bench.paths.named, 2):
        for key, error in commutativity_errors(bench, first, second).items():
            errors[key.split("/")[0]] += [mean for mean in [error.mean().item()] if math.isfinite(mean)]
    moved, lost = changes(bench)
    matrix = side_effect_matrix(moved)
    others = matrix[~torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)]
    errors |= {"side_effects": others[others.isfinite()].tolist(), "identity": lost.flatten().tolist()}
    return {key: sum(values) / len(values) for key, values in errors.items() if values}


@torch.no_grad()
def reached(bench: Bench, move: float) -> float:
    """Return the share of ``move`` by which one unit of each named path moves its attribute on average: 0 to 1.

    Changes that go the other way count against it, so it is small for paths that move some codes up and others down.
    The mean over the attributes.
    """
    shares = []
    for name in bench.paths.named:
        column = bench.scorers.names.index(name)
        moved = score_move(bench.start, bench.alone(name), column, bench.signs(name))["move"]
        shares.append(min(max(moved / move, 0.0), 1.0))
    return sum(shares) / max(1, len(shares))


def match_lengths(methods: Sequence[SemanticPaths]) -> None:
    """Shorten units, so that one unit of an attribute moves it as far as with the method that moves it least.

    A method that moves it less than ``ABLE`` of what another does has no edit of it: it keeps its unit, and shortens no
    other's. Where none moves it upwards all keep theirs.
    """
    for name in methods[0].named:
        furthest = max(paths.named[name].move for paths in methods)
        if furthest <= 0:
            continue
        able = [paths for paths in methods if paths.named[name].move >= ABLE * furthest]
        least = min(paths.named[name].move for paths in able)
        for paths in able:
            named = paths.named[name]
            paths.named[name] = replace(named, unit=named.unit * least / named.move, move=least)


@torch.no_grad()
def bend(paths: SemanticPaths, codes: Tensor, amount: float) -> float:
    """Return how much moves by ``amount`` depend on where they start; 0 for straight and parallel paths.

    It is the mean distance of a code's shift from the mean shift along its path, as a share of the mean length of
    shifts, over ``codes [B, width]`` and all paths.
    """
    moved = _shifts(paths, codes, amount)
    away = (moved - moved.mean(1, keepdim=True)).norm(dim=2)
    return (away.mean() / moved.norm(dim=2).mean()).item()


@torch.no_grad()
def alignment(paths: SemanticPaths, others: SemanticPaths, codes: Tensor, amount: float) -> float:
    """Return the mean cosine between moves by ``amount`` along each path and along the same path of ``others``.

    It is the mean over ``codes [B, width]`` and all paths, -1 to 1. Both have the same frame.
    """
    cosines = torch.cosine_similarity(_shifts(paths, codes, amount), _shifts(others, codes, amount), dim=2)
    return cosines.mean().item()


def _shifts(paths: SemanticPaths, codes: Tensor, amount: float) -> Tensor:
    """Return ``[paths, B, rank]``: how a move by ``amount`` along each path shifts each of the codes ``[B, width]``."""
    start = paths.frame.coordinates(codes)
    amounts = start.new_full((len(codes),), amount)
    which = torch.arange(paths.model.count, device=codes.device)
    return torch.stack([paths.model.move(start, path.expand(len(codes)), amounts) - start for path in which])


@torch.no_grad()
def round_trip(paths: SemanticPaths, codes: Tensor, longest: float) -> dict[str, float]:
    """Return the largest errors of ``codes [B, width]`` moved along two random paths by up to ``longest`` each.

    ``undone`` is the error after a move and its inverse, and ``commutator`` the difference between first-then-second
    and second-then-first, both in the frame's units.
    """
    stream = torch.Generator().manual_seed(0)
    first, second = (place(torch.randint(paths.model.count, (len(codes),), generator=stream)) for _ in range(2))
    one, two = (longest * (2 * place(torch.rand(len(codes), generator=stream)) - 1) for _ in range(2))
    start, move = paths.frame.coordinates(codes), paths.model.move
    forward, backward = move(move(start, first, one), second, two), move(move(start, second, two), first, one)
    return {
        "undone": (move(move(start, first, one), first, -one) - start).abs().max().item(),
        "commutator": (forward - backward).abs().max().item(),
    }
