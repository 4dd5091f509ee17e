"""Comparison of encoders: the columns of the papers' tables, a chart of them, and the best encoder by a stated rule."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gan_core.meaning import Meaning
from gan_core.metrics.base import ENCODED
from gan_core.metrics.names import find_score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OF_EDITS = " of edits"
ROWS = "rows"
JUDGED = ("mse", "lpips", "identity", "fid", "swd", f"fid{OF_EDITS}", f"swd{OF_EDITS}")
COSTS = {
    "parameters": Meaning("Parameters", better="lower"),
    "images_per_s": Meaning("Images per second", better="higher"),
    "peak_mb": Meaning("Peak memory, MB", better="lower"),
}
CHARTS_IN_LINE = 4
"""So that the picture is about as wide as a page, whatever is compared."""
Numbers = dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """Numbers by encoder and column; a column that a run couldn't measure is absent.

    ``left_out`` are encoders of which no row could be measured. ``ROWS`` of an encoder is how many rows its numbers are
    of: no column of the table, but told where encoders differ in it.
    """

    encoders: Mapping[str, Numbers]
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, encoders: Mapping[str, Numbers]) -> "Comparison":
        """Compare those of which something that decides was measured; all, if it was of none of them."""
        found = {name: numbers for name, numbers in encoders.items() if not numbers.keys().isdisjoint(JUDGED)}
        return cls(found, tuple(name for name in encoders if name not in found)) if found else cls(encoders)

    @property
    def columns(self) -> list[str]:
        """The columns that all encoders have: those that are judged, other metrics, costs."""
        numbers = list(self.encoders.values())
        others = [c for c in numbers[0] if c not in (*JUDGED, *COSTS) and explain_column(c).better]
        return [c for c in (*JUDGED, *others, *COSTS) if all(c in found for found in numbers)]

    @property
    def judged(self) -> list[str]:
        """The columns that decide, of those that all encoders have."""
        return [column for column in self.columns if column in JUDGED]

    @property
    def rule(self) -> str:
        """How the best encoder is chosen, by what was measured."""
        names, missing = (
            ", ".join(explain_column(column).label for column in columns)
            for columns in (self.judged, [column for column in JUDGED if column not in self.judged])
        )
        ranked = f"The best mean rank over {names}, each counted once; on a tie, the" if names else "The"
        left_out = f" Not measured for all of them: {missing}." if missing else ""
        failed = ", ".join(self.left_out)
        apart = f" Left out, as none of their rows could be measured: {failed}." if failed else ""
        return f"{ranked} encoder with fewer parameters.{left_out}{apart}{self._different_rows()}"

    @property
    def ranks(self) -> dict[str, float]:
        """Mean rank of each encoder over the judged columns, 1 being best; equal numbers share a rank."""
        return {
            name: float(np.mean([self._rank(name, column) for column in self.judged])) if self.judged else 1.0
            for name in self.encoders
        }

    @property
    def champion(self) -> str:
        """The best encoder by ``rule``."""
        ranks = self.ranks
        return min(self.encoders, key=lambda name: (ranks[name], self.encoders[name].get("parameters", 0), name))

    def rows(self) -> list[dict[str, str | float]]:
        """The table, best first: one row per encoder, with its mean rank."""
        ranks = self.ranks
        order = sorted(self.encoders, key=lambda name: (ranks[name], name != self.champion))
        return [{"encoder": n, **{c: self.encoders[n][c] for c in self.columns}, "mean rank": ranks[n]} for n in order]

    def texts(self) -> list[dict[str, str]]:
        """``rows()`` with four digits of each number, or all those before the point."""
        return [{k: v if isinstance(v, str) else _digits(v) for k, v in row.items()} for row in self.rows()]

    def columns_of_texts(self) -> list[list[str]]:
        """The texts with a line for each column: its name, then what each encoder has in it, the best first."""
        texts = self.texts()
        return [[name, *(text[name] for text in texts)] for name in texts[0]]

    def lines(self) -> list[str]:
        """The table for a terminal, a line for each column and the best encoder first, then which that is."""
        table = self.columns_of_texts()
        widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
        fitted = [[text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in table]
        return [*("  ".join(cells).rstrip() for cells in fitted), f"best: {self.champion}. {self.rule}"]

    def _different_rows(self) -> str:
        rows = {name: int(numbers[ROWS]) for name, numbers in self.encoders.items() if ROWS in numbers}
        if len(set(rows.values())) < 2:
            return ""
        told = ", ".join(f"{count} of {name}" for name, count in rows.items())
        return f" The numbers are of different rows, as not every encoder could encode all: {told}."

    def _rank(self, name: str, column: str) -> float:
        sign = 1 if explain_column(column).better == "lower" else -1
        own = sign * self.encoders[name][column]
        others = [sign * numbers[column] for other, numbers in self.encoders.items() if other != name]
        return 1 + sum(value < own for value in others) + 0.5 * sum(value == own for value in others)


def numbers_of(metrics: Mapping[str, float], cost: Mapping[str, float]) -> Numbers:
    """Pick the columns out of a run's metrics (reconstructions by the encoder alone) and an encoder's cost."""
    found, edits, taken = dict(cost), defaultdict(list), dict[str, str]()
    for score in sorted(map(find_score, metrics), key=lambda score: (not score.meaning.headline, "@" in score.picture)):
        one_network = taken.setdefault(score.metric, score.extractor) == score.extractor
        if score.picture == ENCODED:
            found.setdefault(score.metric, metrics[score.name])
        elif "@" in score.picture and score.meaning.headline and one_network:
            edits[f"{score.metric}{OF_EDITS}"].append(metrics[score.name])
    return found | {column: float(np.mean(values)) for column, values in edits.items() if column in JUDGED}


def explain_column(column: str) -> Meaning:
    """Return what a column of the comparison means."""
    metric = column.removesuffix(OF_EDITS)
    meaning = COSTS.get(metric) or find_score(metric).meaning
    return replace(meaning, label=meaning.label + column.removeprefix(metric))


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def draw_comparison(comparison: Comparison) -> "Figure":
    """Draw one small bar chart per column, up to ``CHARTS_IN_LINE`` in a line, the best encoder's bar dark."""
    from matplotlib.figure import Figure

    columns, names = comparison.columns, list(comparison.encoders)
    across = max(min(len(columns), CHARTS_IN_LINE), 1)
    lines = max(math.ceil(len(columns) / across), 1)
    figure = Figure(figsize=(2.4 * across, lines * (0.4 * len(names) + 0.9)), layout="constrained")
    charts = figure.subplots(lines, across, sharey=True, squeeze=False).ravel()
    for axes in charts[len(columns) :]:
        axes.remove()
    for axes, column in zip(charts, columns, strict=False):
        values = [comparison.encoders[name][column] for name in names]
        meaning = explain_column(column)
        best = (min if meaning.better == "lower" else max)(values)
        axes.barh(names, values, color=["#1f4e79" if value == best else "#a9c3dc" for value in values])
        axes.set_title(f"{meaning.label}\n{meaning.better} is better", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", nbins=3)
        axes.spines[["top", "right"]].set_visible(False)
    charts[0].invert_yaxis()
    return figure
