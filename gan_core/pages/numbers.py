"""What tuning gains and what each edit does, over all rows: numbers, headline tiles and plots."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from gan_core.editing.planned import PlannedEdit
from gan_core.metrics.base import ENCODED, TUNED
from gan_core.metrics.names import Score
from gan_core.pages.page import Plot, Tile
from gan_core.pages.plots import histogram
from gan_core.pages.rows import Rows
from gan_core.pages.sections import worst_value

STEP = {TUNED: "after tuning", ENCODED: "after encoding"}
"""How the reconstructions of a row are called in headlines, the last one first."""


@dataclass(frozen=True)
class Gain:
    """One score over all rows, encoded and tuned.

    ``change`` is the gain by tuning; the worst 5 % of the tuned (else encoded) rows are beyond ``worst``.
    """

    score: Score
    encoded: str
    tuned: str
    change: str
    worst: str


@dataclass(frozen=True)
class Side:
    """A side effect of an edit on another score.

    ``kept``: the share that the edit leaves of a score of the reconstruction; else the mean of the score itself.
    """

    label: str
    sentence: str
    value: float
    text: str
    kept: bool


@dataclass(frozen=True)
class Effect:
    """What one edit does over all rows; numbers are ``None`` where a run didn't measure them.

    ``order`` lists the moves of an edit in order, where the order matters. ``forward`` is the ``move`` in the direction
    that is asked for: below 0 the edit does the opposite. It is the size of the ``move`` where no direction is.
    """

    edit: str
    order: str
    layers: str
    move: float | None
    forward: float | None
    spread: tuple[float, float] | None
    sides: list[Side]


def measure_gains(rows: Rows) -> list[Gain]:
    """Compare encoded and tuned pictures by every score that a row has of one of them."""
    gains = (_gain(rows, score) for score in _inversion_scores(rows))
    return [gain for gain in gains if gain.encoded or gain.tuned]


def measure_effects(
    rows: Rows, plan: Sequence[PlannedEdit], layers: Mapping[str, str], orders: Mapping[str, str]
) -> list[Effect]:
    """Summarise every planned edit; ``layers`` and ``orders`` are texts by column."""
    return [_effect(rows, edit, orders.get(edit.column, ""), layers.get(edit.column, "")) for edit in plan]


def gain_tiles(gains: Iterable[Gain]) -> Iterator[Tile]:
    """Show the leading scores of the last reconstruction."""
    for gain in gains:
        meaning = gain.score.meaning
        if meaning.headline:
            step, value = (STEP[TUNED], gain.tuned) if gain.tuned else (STEP[ENCODED], gain.encoded)
            before = f" The encoder alone: {gain.encoded}." if gain.tuned and gain.encoded else ""
            yield Tile(f"{meaning.label} {step}", f"{value} {meaning.unit}".rstrip(), meaning.sentence + before)


def effect_tiles(effects: Sequence[Effect]) -> Iterator[Tile]:
    """Show the edit that changes its attribute least, and for each score to be kept the edit that lowers it most."""
    if moved := [(effect.forward, effect.edit) for effect in effects if effect.forward is not None]:
        least, edit = min(moved)
        sentence = f"Mean change of the attribute, as a share of its range, by the edit that changes it least ({edit})."
        sentence += " It changes it the other way." if least < 0 else ""
        yield Tile("Smallest change", f"{least:.2f}", sentence)
    sides = [(side, effect.edit) for effect in effects for side in effect.sides if side.kept]
    for label in dict.fromkeys(side.label for side, _ in sides):
        value, edit = min((side.value, edit) for side, edit in sides if side.label == label)
        sentence = f"Score after the edit that lowers it most ({edit}), as a share of the score before it."
        yield Tile(label, f"{value:.2f}", sentence)


def make_plots(rows: Rows, plan: Sequence[PlannedEdit]) -> list[Plot]:
    """Draw the scores of encoded and tuned pictures, then the change of every edited attribute."""
    plots = []
    for score in _inversion_scores(rows):
        plots.append(_plot(rows, score.meaning.label, [rows.same(score, ENCODED), rows.same(score, TUNED)]))
    for target in dict.fromkeys(edit.target for edit in plan if edit.target):
        changes = [rows.find(target, edit.column) for edit in plan if edit.target == target]
        plots.append(_plot(rows, f"Change of {target.replace('_', ' ')}", changes))
    return [plot for plot in plots if plot.svg]


def _inversion_scores(rows: Rows) -> list[Score]:
    found: dict[tuple[str, str], Score] = {}
    for score in rows.scores.values():
        if score.picture in STEP:
            found.setdefault((score.metric, score.extractor), score)
    return list(found.values())


def _plot(rows: Rows, title: str, scores: Iterable[Score | None]) -> Plot:
    drawn = [score for score in scores if score and len(rows.values_of(score))]
    if not drawn:
        return Plot(title, Markup(""), ())
    series = {score.picture: rows.values_of(score) for score in drawn}
    return Plot(title, histogram(series, drawn[0].meaning, title), tuple(series))


def _gain(rows: Rows, score: Score) -> Gain:
    encoded, tuned = (rows.values_of(rows.same(score, picture)) for picture in (ENCODED, TUNED))
    last, meaning = tuned if len(tuned) else encoded, score.meaning
    return Gain(
        score,
        meaning.show(float(encoded.mean())) if len(encoded) else "",
        meaning.show(float(tuned.mean())) if len(tuned) else "",
        meaning.show_change(float(encoded.mean()), float(tuned.mean())) if len(encoded) and len(tuned) else "",
        meaning.show(worst_value(score, last)) if len(last) else "",
    )


def _effect(rows: Rows, edit: PlannedEdit, order: str, layers: str) -> Effect:
    change = rows.values_of(rows.find(edit.target, edit.column))
    move = float(change.mean()) if len(change) else None
    return Effect(
        edit.column,
        order,
        layers,
        move,
        None if move is None else _forward(edit, move),
        (float(np.quantile(change, 0.1)), float(np.quantile(change, 0.9))) if len(change) else None,
        [_side(rows, score) for score in rows.scores.values() if _beside(rows, score, edit)],
    )


def _forward(edit: PlannedEdit, move: float) -> float:
    return math.copysign(move, move * edit.strength * edit.move if edit.directed else 1.0)


def _beside(rows: Rows, score: Score, edit: PlannedEdit) -> bool:
    return score.picture == edit.column and score.metric != edit.target and len(rows.values_of(score)) > 0


def _side(rows: Rows, score: Score) -> Side:
    meaning, value = score.meaning, float(np.mean(rows.values_of(score)))
    before = rows.values_of(rows.same(score, TUNED) or rows.same(score, ENCODED))
    if meaning.better == "higher" and len(before) and before.mean() > 0:
        kept = value / float(before.mean())
        return Side(f"{meaning.label} kept", meaning.sentence, kept, f"{kept:.3f}", kept=True)
    return Side(meaning.label, meaning.help, value, meaning.show(value), kept=False)
