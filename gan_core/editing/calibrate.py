"""Measure how a direction changes its attribute, other attributes and identity, and calibrate its unit of length."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter

import torch
from torch import Tensor

from gan_core.editing.apply import apply_edit
from gan_core.editing.directions import Direction
from gan_core.generators.base import Generator

Reader = Callable[[Tensor], Tensor]
BATCH = 64
"""Images that are rendered and scored at once."""
SEARCHES = 7
"""Lengths that a search tries at most; each one renders all faces."""
REACHED = 0.98
"""A move counts as reached from this share of the wanted move on."""
TOLERANCE = 0.02
"""A search stops within this share of the wanted move."""
SHORTFALL_WEIGHT = 4.0
"""Weight of the shortfall in ``merit``: missing a quarter of the move costs as much as losing the identity."""
OVERSHOOT = 1.03
"""Below the wanted move, the next length aims at this multiple of it, so that it brackets the move from above."""
GROWTH = (1.15, 1.6)
"""Limits of the factor between two lengths below the wanted move; some moves are reached only at middle lengths."""
INSIDE = (0.1, 0.9)
"""Limits of the position of the next length in its bracket, so that each step of false position shrinks it."""


@dataclass(frozen=True)
class Scorers:
    """Networks that score images ``[B, 3, H, W]`` in [-1, 1].

    ``attributes`` returns ``[B, A]`` in shares of their range (0 to 1), ``names`` are their names, and ``identity``
    returns unit vectors ``[B, D]``. ``attributes_sha256`` is the hash of the file of the network behind ``attributes``,
    if there is one.
    """

    names: tuple[str, ...]
    attributes: Reader
    identity: Reader
    attributes_sha256: str | None = None


@dataclass(frozen=True)
class Faces:
    """Latents ``w_plus [B, n_latent, w_dim]`` with ``attributes [B, A]`` and ``identity [B, D]`` of their images."""

    w_plus: Tensor
    attributes: Tensor
    identity: Tensor


@torch.no_grad()
def render_and_score(generator: Generator, w_plus: Tensor, scorers: Scorers) -> Faces:
    """Render latents ``w_plus [B, n_latent, w_dim]`` in batches and score their images."""
    seen = []
    for part in w_plus.split(BATCH):
        images = generator.synthesis(part)
        seen.append((scorers.attributes(images), scorers.identity(images)))
    attributes, identity = zip(*seen, strict=True)
    return Faces(w_plus, torch.cat(attributes), torch.cat(identity))


def direction_with_room(faces: Faces, column: int) -> Tensor:
    """Return the direction ``[B]`` in which an attribute has more room: +1 in the lower half of its range, else -1."""
    return torch.where(faces.attributes[:, column] < 0.5, 1.0, -1.0)


def edit_each(generator: Generator, faces: Faces, direction: Direction, strengths: Tensor, scorers: Scorers) -> Faces:
    """Edit each face by its own strength ``[B]``, render and score the results."""
    moved = apply_edit(torch.zeros_like(faces.w_plus), direction, 1.0)
    return render_and_score(generator, faces.w_plus + strengths[:, None, None] * moved, scorers)


def score(generator: Generator, faces: Faces, direction: Direction, scorers: Scorers) -> dict[str, float]:
    """Measure one unit of a direction on ``faces``, each moved in the direction in which its attribute has room.

    ``move`` is the mean change of the attribute, and ``side_effect`` the mean absolute change of the other attributes,
    both in shares of the range. ``identity_kept`` is the mean cosine of the identity before and after. Raises
    ``ValueError`` if no attribute has the direction's name.
    """
    column = scorers.names.index(direction.name)
    signs = direction_with_room(faces, column)
    return compare(faces, edit_each(generator, faces, direction, signs, scorers), column, signs)


def compare(before: Faces, after: Faces, column: int, signs: Tensor) -> dict[str, float]:
    """Score a move of the attribute ``column`` in the directions ``signs [B]`` (+1 or -1); see ``score``."""
    change = after.attributes - before.attributes
    others = [i for i in range(change.shape[1]) if i != column]
    return {
        "move": (signs * change[:, column]).mean().item(),
        "side_effect": change[:, others].abs().mean().item() if others else 0.0,
        "identity_kept": (after.identity * before.identity).sum(1).mean().item(),
    }


def calibrate(
    generator: Generator, faces: Faces, direction: Direction, scorers: Scorers, move: float, longest: float
) -> Direction:
    """Scale a direction so that one unit changes its attribute by ``move``, a share of its range.

    If no length reaches the move, the direction gets the length that moves its attribute furthest. ``scores`` are those
    of the chosen length. ``longest`` limits the length of each row of the vector.
    """
    own_length = direction.vector.norm(dim=-1).max()

    def scaled(length: float) -> Direction:
        return replace(direction, vector=direction.vector * (length / own_length))

    length, scores = search_length(lambda length: score(generator, faces, scaled(length), scorers), move, longest)
    return replace(scaled(length), scores=scores)


def merit(scores: Mapping[str, float], move: float) -> float:
    """Return the quality of an edit: identity kept, minus side effects, minus four times the shortfall of its move."""
    shortfall = max(0.0, REACHED - scores["move"] / move)
    return scores["identity_kept"] - scores["side_effect"] - SHORTFALL_WEIGHT * shortfall


def search_length(
    score_at: Callable[[float], dict[str, float]], move: float, longest: float
) -> tuple[float, dict[str, float]]:
    """Find the length whose score ``move`` equals ``move``, and return it with its scores.

    The length grows from a quarter of ``longest`` until the move is reached, and is then refined by false position. If
    the move can't be reached, the result is the length that moves furthest.
    """
    tried: list[tuple[float, float, dict[str, float]]] = []
    length = longest / 4
    for _ in range(SEARCHES):
        scores = score_at(length)
        tried.append((length, scores["move"], scores))
        if abs(scores["move"] / move - 1) < TOLERANCE or (length == longest and scores["move"] < move):
            break
        length = _next_length([(0.0, 0.0), *((a, b) for a, b, _ in tried)], move, longest)
    reached = [item for item in tried if item[1] >= REACHED * move]
    length, _, scores = min(reached, key=itemgetter(0)) if reached else max(tried, key=itemgetter(1))
    return length, scores


def _next_length(tried: list[tuple[float, float]], move: float, longest: float) -> float:
    below = max(((a, b) for a, b in tried if b < move), default=(0.0, 0.0))
    above = min(((a, b) for a, b in tried if b >= move), default=None)
    if above is None:
        growth = min(max(OVERSHOOT * move / max(below[1], 1e-6), GROWTH[0]), GROWTH[1])
        return min(below[0] * growth, longest)
    share = (move - below[1]) / (above[1] - below[1])
    return below[0] + min(max(share, INSIDE[0]), INSIDE[1]) * (above[0] - below[0])
