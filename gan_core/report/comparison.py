"""Encoders side by side: the columns of the papers' tables, a chart of them, and which is best by a stated rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RULE = (
    "The best mean rank over MSE, LPIPS, identity, FID and SWD of the reconstructions and FID and SWD of the edits, "
    "each counted once; of equal ones that with fewer parameters."
)
JUDGED = {
    "mse": "lower",
    "lpips": "lower",
    "identity": "higher",
    "fid": "lower",
    "swd": "lower",
    "fid of edits": "lower",
    "swd of edits": "lower",
}
COSTS = {"parameters": "lower", "images_per_s": "higher", "peak_mb": "lower"}
Numbers = dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """Numbers by encoder and column; a column that a run couldn't measure is absent."""

    encoders: Mapping[str, Numbers]

    @property
    def columns(self) -> list[str]:
        """The columns that all encoders have, those that are judged first."""
        return [c for c in [*JUDGED, *COSTS] if all(c in numbers for numbers in self.encoders.values())]

    @property
    def ranks(self) -> dict[str, float]:
        """Mean rank of each encoder over the judged columns, 1 being best; equal numbers share a rank."""
        judged = [column for column in self.columns if column in JUDGED]
        return {
            name: float(np.mean([self._rank(name, column) for column in judged])) if judged else 1.0
            for name in self.encoders
        }

    @property
    def champion(self) -> str:
        """The best encoder by ``RULE``."""
        ranks = self.ranks
        return min(self.encoders, key=lambda name: (ranks[name], self.encoders[name].get("parameters", 0), name))

    def rows(self) -> list[dict[str, str | float]]:
        """The table, best first: one row an encoder, with its mean rank."""
        ranks = self.ranks
        order = sorted(self.encoders, key=lambda name: (ranks[name], name != self.champion))
        return [{"encoder": n, **{c: self.encoders[n][c] for c in self.columns}, "mean rank": ranks[n]} for n in order]

    def _rank(self, name: str, column: str) -> float:
        sign = 1 if JUDGED[column] == "lower" else -1
        own = sign * self.encoders[name][column]
        others = [sign * numbers[column] for other, numbers in self.encoders.items() if other != name]
        return 1 + sum(value < own for value in others) + 0.5 * sum(value == own for value in others)


def numbers_of(metrics: Mapping[str, float], cost: Mapping[str, float]) -> Numbers:
    """Pick the columns out of a run's metrics (reconstructions by the encoder alone) and an encoder's cost."""
    found = dict(cost)
    for column, name in {"mse": "mse/encoded", "swd": "swd/mean/encoded"}.items():
        if name in metrics:
            found[column] = metrics[name]
    for column in ("lpips", "identity", "fid"):
        values = [v for name, v in metrics.items() if name.startswith((f"{column}/", f"{column}_")) and _encoded(name)]
        if values:
            found[column] = values[0]
    for column, start in {"fid of edits": "fid/", "swd of edits": "swd/mean/"}.items():
        edits = [value for name, value in metrics.items() if name.startswith(start) and "@" in name]
        if edits:
            found[column] = float(np.mean(edits))
    return found


def draw_comparison(comparison: Comparison) -> "Figure":
    """Draw one small bar chart a column, the best encoder's bar dark."""
    from matplotlib.figure import Figure

    columns, names = comparison.columns, list(comparison.encoders)
    figure = Figure(figsize=(2.4 * max(len(columns), 1), 0.5 * len(names) + 1.2), layout="constrained")
    for axes, column in zip(np.ravel(figure.subplots(1, max(len(columns), 1), sharey=True)), columns, strict=True):
        values = [comparison.encoders[name][column] for name in names]
        better = (JUDGED | COSTS)[column]
        best = (min if better == "lower" else max)(values)
        axes.barh(names, values, color=["#1f4e79" if value == best else "#a9c3dc" for value in values])
        axes.set_title(f"{column.replace('_', ' ')}\n{better} is better", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _encoded(name: str) -> bool:
    return name.endswith("/encoded")
