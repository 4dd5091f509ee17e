"""The numbers of the report: headline tiles, what tuning gains, what each edit does, and plots of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from gan_core.editing.planned import PlannedEdit
from gan_core.report.metrics import Score, explain_total, parse_score
from gan_core.report.plots import histogram
from gan_core.report.rows import Rows


@dataclass(frozen=True)
class Tile:
    """A headline number and a sentence on what it means."""

    label: str
    value: str
    sentence: str


@dataclass(frozen=True)
class Gain:
    """One score over all rows, encoded against tuned.

    ``change`` says what tuning gains; ``worst`` is where the worst twentieth of the tuned (else encoded) rows begins.
    """

    score: Score
    encoded: str
    tuned: str
    change: str
    worst: str


@dataclass(frozen=True)
class Effect:
    """What one edit does over all rows; numbers are ``None`` where a run didn't measure them.

    ``order`` names the moves of an edit in turn where their order counts.
    """

    edit: str
    order: str
    layers: str
    move: float | None
    spread: tuple[float, float] | None
    identity_kept: float | None
    side_effect: float | None
    rows: int


@dataclass(frozen=True)
class Plot:
    """A histogram with its legend: the names of the series, in the order of their colours."""

    title: str
    svg: Markup
    legend: tuple[str, ...]


def measure_gains(rows: Rows) -> list[Gain]:
    """Compare encoded and tuned pictures by every score that has one of them."""
    return [_gain(rows, score) for score in _inversion_scores(rows)]


def measure_effects(
    rows: Rows, plan: list[PlannedEdit], layers: Mapping[str, str], orders: Mapping[str, str]
) -> list[Effect]:
    """Summarise every planned edit; ``layers`` and ``orders`` are texts by column."""
    return [_effect(rows, edit, orders.get(edit.column, ""), layers.get(edit.column, "")) for edit in plan]


def make_tiles(rows: Rows, gains: list[Gain], effects: list[Effect], totals: Mapping[str, float]) -> list[Tile]:
    """Choose the headline numbers of a run; ``totals`` are those about the whole dataset."""
    return [*_count_tiles(rows), *_gain_tiles(gains), *_effect_tiles(effects), *_total_tiles(totals)]


def make_plots(rows: Rows, plan: list[PlannedEdit]) -> list[Plot]:
    """Draw the scores of encoded and tuned pictures, then the move of every edited attribute."""
    plots = []
    for score in _inversion_scores(rows):
        plots.append(_plot(rows, score.meaning.label, score, {p: _sibling(score, p) for p in ("encoded", "tuned")}))
    for target in dict.fromkeys(edit.target for edit in plan if edit.target):
        names = {e.column: f"{target}/{e.column}" for e in plan if e.target == target}
        plots.append(_plot(rows, f"Move of {target.replace('_', ' ')}", parse_score(f"{target}/"), names))
    return [plot for plot in plots if plot.svg]


def _inversion_scores(rows: Rows) -> Iterator[Score]:
    seen = set()
    for name in rows.values:
        score = parse_score(name)
        if score.picture in ("encoded", "tuned") and (score.metric, score.extractor) not in seen:
            seen.add((score.metric, score.extractor))
            yield score


def _sibling(score: Score, picture: str) -> str:
    return f"{score.name.partition('/')[0]}/{picture}"


def _plot(rows: Rows, title: str, score: Score, names: Mapping[str, str]) -> Plot:
    found = {label: rows.values[name] for label, name in names.items() if len(rows.values.get(name, ()))}
    return Plot(title, histogram(found, score.meaning.digits, title), tuple(found))


def _gain(rows: Rows, score: Score) -> Gain:
    encoded, tuned = (rows.values.get(_sibling(score, picture), np.empty(0)) for picture in ("encoded", "tuned"))
    last = tuned if len(tuned) else encoded
    tail = 0.05 if score.meaning.better == "higher" else 0.95
    return Gain(
        score,
        score.meaning.show(float(encoded.mean())) if len(encoded) else "",
        score.meaning.show(float(tuned.mean())) if len(tuned) else "",
        _change(score, float(encoded.mean()), float(tuned.mean())) if len(encoded) and len(tuned) else "",
        score.meaning.show(float(np.quantile(last, tail))) if len(last) else "",
    )


def _change(score: Score, before: float, after: float) -> str:
    if score.metric in ("mse", "lpips") and after > 0:
        return f"÷ {before / after:.1f}" if before >= after else f"× {after / before:.1f}"
    return f"{after - before:+.{score.meaning.digits}f}".replace("-", "\u2212")


def _effect(rows: Rows, edit: PlannedEdit, order: str, layers: str) -> Effect:
    move = rows.values.get(f"{edit.target}/{edit.column}", np.empty(0))
    side_effect = rows.values.get(f"side_effect/{edit.column}", np.empty(0))
    return Effect(
        edit.column,
        order,
        layers,
        float(move.mean()) if len(move) else None,
        (float(np.quantile(move, 0.1)), float(np.quantile(move, 0.9))) if len(move) else None,
        _identity_kept(rows, edit.column),
        float(side_effect.mean()) if len(side_effect) else None,
        len(move),
    )


def _identity_kept(rows: Rows, column: str) -> float | None:
    for name, after in rows.values.items():
        score = parse_score(name)
        if score.metric == "identity" and score.picture == column and len(after):
            before = rows.values.get(_sibling(score, "tuned"), rows.values.get(_sibling(score, "encoded")))
            if before is not None and len(before) and before.mean() > 0:
                return float(after.mean() / before.mean())
    return None


def _count_tiles(rows: Rows) -> Iterator[Tile]:
    failed = rows.total - rows.ok
    yield Tile("Rows in", f"{rows.total:,}", "Every row of the dataset is in the output, with a status.")
    flags = "".join(f" {flag.capitalize()}: {n:,}." for flag, n in sorted(rows.flags.items()))
    yield Tile("Edited", f"{rows.ok:,}", "Rows that went through all stages." + flags)
    yield Tile("Turned away", f"{failed:,}", "Each with its reason, below." if failed else "No row failed.")


def _gain_tiles(gains: list[Gain]) -> Iterator[Tile]:
    for metric in ("psnr", "lpips", "identity"):
        for gain in (gain for gain in gains if gain.score.metric == metric):
            unit = " dB" if metric == "psnr" else ""
            when, value = ("after tuning", gain.tuned) if gain.tuned else ("encoded", gain.encoded)
            before = f" The encoder alone: {gain.encoded}." if gain.tuned and gain.encoded else ""
            yield Tile(f"{gain.score.meaning.label} {when}", value + unit, gain.score.meaning.sentence + before)


def _effect_tiles(effects: list[Effect]) -> Iterator[Tile]:
    if moved := [(abs(e.move), e) for e in effects if e.move is not None]:
        least, effect = min(moved, key=lambda item: item[0])
        sentence = (
            f"Mean change of the attribute, as a share of its range, by the edit that moves least ({effect.edit})."
        )
        yield Tile("Smallest move", f"{least:.2f}", sentence)
    if kept := [(e.identity_kept, e) for e in effects if e.identity_kept is not None]:
        least, effect = min(kept, key=lambda item: item[0])
        sentence = f"Identity score after the edit that costs most ({effect.edit}), as a share of the score before it."
        yield Tile("Identity kept", f"{least:.2f}", sentence)


def _total_tiles(totals: Mapping[str, float]) -> Iterator[Tile]:
    for name, value in totals.items():
        meaning = explain_total(name)
        yield Tile(name, meaning.show(value), meaning.sentence)
