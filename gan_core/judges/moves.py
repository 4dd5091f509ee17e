"""What a move of latents does to the scores of its pictures, and how long the move should be."""

from collections.abc import Callable, Mapping
from operator import itemgetter

import torch
from torch import Tensor

from gan_core.judges.scorers import Scored

SEARCHES = 7
"""Lengths that a search tries at most; each one renders all faces."""
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


def direction_with_room(before: Scored, column: int) -> Tensor:
    """Return +1 for rows in the lower half of an attribute's range and -1 for the others, ``[B]``.

    Moved in this direction, each row has at least half of the range before it. A periodic attribute has no end: +1.
    """
    if column in before.wraps:
        return torch.ones_like(before.attributes[:, column])
    return torch.where(before.attributes[:, column] < 0.5, 1.0, -1.0)


def score_move(before: Scored, after: Scored, column: int, signs: Tensor) -> dict[str, float]:
    """Score a move of the attribute ``column`` that went up or down by ``signs [B]``.

    ``move``: mean change of the attribute; ``side_effect``: mean absolute change of the others (both in shares of the
    range); ``identity_kept``: mean cosine of the identity before and after, where it is judged.
    """
    change = after.change(before)
    others = [i for i in range(change.shape[1]) if i != column]
    scores = {
        "move": (signs * change[:, column]).mean().item(),
        "side_effect": change[:, others].abs().mean().item() if others else 0.0,
    }
    kept = {"identity_kept": (after.identity * before.identity).sum(1).mean().item()} if before.identity.numel() else {}
    return scores | kept


def merit(scores: Mapping[str, float], move: float) -> float:
    """Return the quality of an edit: identity kept, minus side effects, minus four times the shortfall of its move."""
    short = max(0.0, 1 - TOLERANCE - scores["move"] / move)
    return scores["identity_kept"] - scores["side_effect"] - SHORTFALL_WEIGHT * short


def search_length(
    score_at: Callable[[float], dict[str, float]], move: float, longest: float
) -> tuple[float, dict[str, float]]:
    """Find the length whose score ``move`` is the one wanted, with its scores.

    Grows from a quarter of ``longest`` until the move is reached, then closes in by false position. Where it can't be
    reached, the length that moves furthest.
    """
    tried: list[tuple[float, float, dict[str, float]]] = []
    length = longest / 4
    for _ in range(SEARCHES):
        scores = score_at(length)
        tried.append((length, scores["move"], scores))
        if abs(scores["move"] / move - 1) < TOLERANCE or (length == longest and scores["move"] < move):
            break
        length = _next_length([(0.0, 0.0), *((a, b) for a, b, _ in tried)], move, longest)
    reached = [item for item in tried if item[1] >= (1 - TOLERANCE) * move]
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
