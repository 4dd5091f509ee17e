"""Trainings by several methods and seeds, all of them measured side by side after the same budgets."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from gan_core.storage.atomic import write_bytes
from gan_core.training.beside import in_processes, results_of
from gan_core.training.log import Report

DIGITS = 6
Row = dict[str, Any]
Scores = Mapping[str, Any]
Reports = Callable[[str], Report]
"""Makes what follows a training, by its name."""
Trained = TypeVar("Trained")


@dataclass(frozen=True)
class Plan:
    """What is trained: every one of ``methods`` from every one of ``seeds``, to each of ``budgets`` in turn.

    The methods of ``further`` then go on to more budgets.
    """

    methods: Sequence[str]
    seeds: Sequence[int]
    budgets: Sequence[int]
    further: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def methods_at(self, budget: int) -> list[str]:
        """Return the methods that reach a budget and are measured there."""
        return [method for method in self.methods if budget in (*self.budgets, *self.further.get(method, ()))]

    @property
    def all_budgets(self) -> list[int]:
        """Every budget of any method, rising."""
        return sorted({*self.budgets, *(budget for more in self.further.values() for budget in more)})


class Study(ABC, Generic[Trained]):
    """Trains by a ``plan`` and keeps a row for each method, seed and budget.

    Budgets count ``unit``, which is a column of the rows. Methods that are measured ``together`` get their rows seed by
    seed; others one at a time, so that more of them can be added later.
    """

    unit: ClassVar[str]
    together: ClassVar[bool] = False

    @property
    @abstractmethod
    def plan(self) -> Plan:
        """What is trained."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What all rows of one file have in common; rows with another key are made again."""

    def key_of(self, method: str) -> str:
        """Return what the rows of a method have in common besides: kept in them if it isn't empty."""
        return ""

    @abstractmethod
    def train(self, method: str, seed: int, budget: int, path: Path, report: Report) -> Trained:
        """Bring a training to ``budget``, going on from the file at ``path``, where its state stays.

        Raises ``ParamsError`` for a state that is further.
        """

    @abstractmethod
    def measure(self, seed: int, budget: int, trained: Mapping[str, Trained]) -> Mapping[str, Scores]:
        """Return the scores of trainings by method."""

    def run(self, folder: Path, target: Path, report: Reports, workers: int = 1) -> list[Row]:
        """Train and measure, or go on in ``folder``; ``target`` gets a row for each method, seed and budget.

        All trainings reach a budget before any goes further, so that what is written at any time compares equal
        budgets. With more than one of ``workers`` they go on, and are measured, beside each other, which changes no
        result; rows of a budget are written when all are measured then.
        """
        rows = self.stored(target)
        for budget in self.plan.all_budgets:
            due = {seed: self._due(rows, seed, budget) for seed in self.plan.seeds}
            groups = [(seed, group) for seed, methods in due.items() for group in self._groups(methods)]
            measure = [partial(self._measured, seed, budget, group, folder, report) for seed, group in groups]
            measured: Iterable[Mapping[str, Scores]] = (job() for job in measure)
            if workers > 1:
                pairs = [(method, seed) for seed, methods in due.items() for method in methods]
                in_processes([partial(self.reach, *pair, budget, folder, report) for pair in pairs], workers)
                measured = results_of(measure, workers)
            for (seed, _), found in zip(groups, measured, strict=True):
                rows = [row for row in rows if not self._is_of(row, seed, budget) or row["method"] not in found]
                rows += [self._row(method, seed, budget, scores) for method, scores in found.items()]
                write_rows(target, self.key, rows)
        return rows

    def stored(self, target: Path) -> list[Row]:
        """Return the rows of a file that are this study's."""
        rows = stored_rows(target, self.key)
        known = {method: self.key_of(method) for method in self.plan.methods}
        return [row for row in rows if row.get("made_from", "") == known.get(row["method"], row.get("made_from", ""))]

    def reach(self, method: str, seed: int, budget: int, folder: Path, report: Reports) -> Trained:
        """Bring a training to ``budget`` as ``train`` does; its state is ``<method>-<seed>.pt`` in ``folder``."""
        name = f"{method}-{seed}"
        return self.train(method, seed, budget, folder / f"{name}.pt", report(name))

    def _measured(
        self, seed: int, budget: int, group: Sequence[str], folder: Path, report: Reports
    ) -> Mapping[str, Scores]:
        trained = {method: self.reach(method, seed, budget, folder, report) for method in group}
        return self.measure(seed, budget, trained)

    def _due(self, rows: Sequence[Row], seed: int, budget: int) -> list[str]:
        done = {row["method"] for row in rows if self._is_of(row, seed, budget)}
        planned = self.plan.methods_at(budget)
        missing = [method for method in planned if method not in done]
        return planned if missing and self.together else missing

    def _is_of(self, row: Row, seed: int, budget: int) -> bool:
        return (row["seed"], row[self.unit]) == (seed, budget)

    def _groups(self, methods: Sequence[str]) -> list[Sequence[str]]:
        """Return what is measured at a time."""
        if self.together and methods:
            return [methods]
        return [[method] for method in methods]

    def _row(self, method: str, seed: int, budget: int, scores: Scores) -> Row:
        made_from = {"made_from": key} if (key := self.key_of(method)) else {}
        rounded = {
            name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for name, value in scores.items()
        }
        return {"method": method, "seed": seed, self.unit: budget} | made_from | rounded


def stored_rows(target: Path, key: str) -> list[Row]:
    """Return the rows that ``write_rows`` wrote with this ``key``, none if there are none."""
    stored = json.loads(target.read_text()) if target.exists() else {}
    return list(stored["rows"]) if stored.get("key") == key else []


def write_rows(target: Path, key: str, rows: Sequence[Row]) -> None:
    """Write ``rows`` atomically, one a line, after the ``key`` that they have in common."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    write_bytes(target, f'{{"key": {json.dumps(key)}, "rows": [\n{lines}\n]}}\n'.encode())
