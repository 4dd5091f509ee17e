"""What a direction does to pictures: how far it moves its attribute, what else it changes, and how long one unit is."""

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
SEARCHES = 7


@dataclass(frozen=True)
class Eyes:
    """What judges pictures: ``attributes [B, A]`` in shares of the range (0 to 1), ``identity [B, D]`` unit rows.

    ``attributes_sha256`` is the hash of the file that the network behind ``attributes`` came from, if one did.
    """

    names: tuple[str, ...]
    attributes: Reader
    identity: Reader
    attributes_sha256: str | None = None


@dataclass(frozen=True)
class Faces:
    """Latents ``w_plus [B, n_latent, w_dim]`` with what the eyes see in their pictures."""

    w_plus: Tensor
    attributes: Tensor
    identity: Tensor


@torch.no_grad()
def look(generator: Generator, w_plus: Tensor, eyes: Eyes) -> Faces:
    """Render latents and read their attributes ``[B, A]`` and identities ``[B, D]``, some at a time."""
    seen = []
    for part in w_plus.split(BATCH):
        images = generator.synthesis(part)
        seen.append((eyes.attributes(images), eyes.identity(images)))
    attributes, identity = zip(*seen, strict=True)
    return Faces(w_plus, torch.cat(attributes), torch.cat(identity))


def towards_room(faces: Faces, column: int) -> Tensor:
    """Return +1 for the faces in the lower half of an attribute's range and -1 for the others, ``[B]``.

    Moved in this direction, each face has at least half of the range before it.
    """
    return torch.where(faces.attributes[:, column] < 0.5, 1.0, -1.0)


def edit_each(generator: Generator, faces: Faces, direction: Direction, strengths: Tensor, eyes: Eyes) -> Faces:
    """Edit each face by its own strength ``[B]`` and look again."""
    moved = apply_edit(torch.zeros_like(faces.w_plus), direction, 1.0)
    return look(generator, faces.w_plus + strengths[:, None, None] * moved, eyes)


def score(generator: Generator, faces: Faces, direction: Direction, eyes: Eyes) -> dict[str, float]:
    """Measure one unit of a direction on ``faces``, each moved towards the side where its attribute has room.

    ``move``: mean change of the attribute; ``side_effect``: mean absolute change of the others (both in shares of the
    range); ``identity_kept``: mean cosine of the identity before and after.
    """
    column = eyes.names.index(direction.name)
    signs = towards_room(faces, column)
    return compare(faces, edit_each(generator, faces, direction, signs, eyes), column, signs)


def compare(before: Faces, after: Faces, column: int, signs: Tensor) -> dict[str, float]:
    """Score a move of the attribute ``column`` that went up or down by ``signs [B]``; see ``score``."""
    change = after.attributes - before.attributes
    others = [i for i in range(change.shape[1]) if i != column]
    return {
        "move": (signs * change[:, column]).mean().item(),
        "side_effect": change[:, others].abs().mean().item() if others else 0.0,
        "identity_kept": (after.identity * before.identity).sum(1).mean().item(),
    }


def calibrate(
    generator: Generator, faces: Faces, direction: Direction, eyes: Eyes, move: float, longest: float
) -> Direction:
    """Scale a direction so that one unit changes its attribute by ``move`` (share of its range).

    A direction that can't reach it comes back at the length that moves it furthest, with the scores of that.
    ``longest`` limits each row of the vector.
    """
    own_length = direction.vector.norm(dim=-1).max()

    def scaled(length: float) -> Direction:
        return replace(direction, vector=direction.vector * (length / own_length))

    length, scores = search_length(lambda length: score(generator, faces, scaled(length), eyes), move, longest)
    return replace(scaled(length), scores=scores)


def merit(scores: Mapping[str, float], move: float) -> float:
    """Identity kept, less side effects, less four times the share of the ``move`` that an edit falls short of."""
    return scores["identity_kept"] - scores["side_effect"] - 4 * max(0.0, 0.98 - scores["move"] / move)


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
        if abs(scores["move"] / move - 1) < 0.02 or (length == longest and scores["move"] < move):
            break
        length = _next_length([(0.0, 0.0), *((a, b) for a, b, _ in tried)], move, longest)
    reached = [item for item in tried if item[1] >= 0.98 * move]
    length, _, scores = min(reached, key=itemgetter(0)) if reached else max(tried, key=itemgetter(1))
    return length, scores


def _next_length(tried: list[tuple[float, float]], move: float, longest: float) -> float:
    below = max(((a, b) for a, b in tried if b < move), default=(0.0, 0.0))
    above = min(((a, b) for a, b in tried if b >= move), default=None)
    if above is None:
        return min(below[0] * min(max(1.03 * move / max(below[1], 1e-6), 1.15), 1.6), longest)
    share = (move - below[1]) / (above[1] - below[1])
    return below[0] + min(max(share, 0.1), 0.9) * (above[0] - below[0])
