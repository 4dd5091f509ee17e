"""What a direction does to pictures, and how long one unit of it is."""

from dataclasses import replace

import torch
from torch import Tensor

from gan_core.editing.apply import apply_edit
from gan_core.editing.directions import Direction
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.judges.moves import direction_with_room, score_move, search_length
from gan_core.judges.scorers import Scored, Scorers, render_and_score

REACHED = 0.05
"""A direction that moves its attribute by the wanted amount, within this share, is said to do so."""


def edit_each(generator: Generator, faces: Scored, direction: Direction, strengths: Tensor, scorers: Scorers) -> Scored:
    """Edit each face by its own strength ``[B]`` and score it again."""
    moved = apply_edit(torch.zeros_like(faces.w_plus), direction, 1.0)
    return render_and_score(generator, faces.w_plus + strengths[:, None, None] * moved, scorers)


def score(generator: Generator, faces: Scored, direction: Direction, scorers: Scorers) -> dict[str, float]:
    """Measure one unit of a direction on ``faces``, each moved towards the side where its attribute has room.

    The scores are those of ``gan_core.judges.moves.score_move``.
    """
    column = scorers.names.index(direction.name)
    signs = direction_with_room(faces, column)
    return score_move(faces, edit_each(generator, faces, direction, signs, scorers), column, signs)


def calibrate(
    generator: Generator, faces: Scored, direction: Direction, scorers: Scorers, move: float, longest: float
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


def with_reached_unit(direction: Direction, move: float) -> Direction:
    """State by how much one unit of a calibrated direction moves its attribute, where ``move`` was wanted.

    Raises ``ParamsError`` if it doesn't move it, or moves it the other way.
    """
    moved = direction.scores["move"]
    if not moved > 0:
        raise ParamsError(f"no direction that was found changes {direction.name}: draw more (--set samples=N)")
    return replace(direction, unit=reached(moved, move, "of the attribute's range"))


def reached(moved: float, wanted: float, unit: str) -> str:
    """Say in words by how much one unit of a direction moves its attribute: as ``wanted``, or what it does instead."""
    if abs(moved / wanted - 1) <= REACHED:
        return f"{wanted:g} {unit}"
    why = "is too far" if moved < wanted else "can't be hit: the attribute jumps"
    return f"{moved:.3g} {unit} ({wanted:g} {why})"
