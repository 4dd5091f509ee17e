"""How each row is inverted, and by how many steps: from a table of what ways cost and bring, measured on such rows.

Rows differ in how far their pivot is from their picture, which a look finds out before anything is refined. The rows of
the table are cut by that distance into bins, and each bin has its own curve of the distance over seconds, of all ways
and their steps. A budget is spent on what lowers the mean distance most for its seconds (the lower convex hulls of the
curves). Where all rows get the same, they need no look, and its seconds are left for them.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from gan_core.budgets import InvertParams
from gan_core.errors import DataError, ParamsError
from gan_core.gates import Gate
from gan_core.storage.atomic import write_bytes
from gan_core.storage.urls import exists, read_bytes

BINS = 8
ROWS_OF_BIN = 4
"""A bin's curve is the mean of at least so many rows."""
ALONE = "pti"
"""The refinement of a run that has no other."""
SHARE = 0.9
"""Rows of a bin that have to reach a target by the steps that the bin gets."""
MAKE = "`edit-dataset calibrate-inversion RUN` makes it from an encoded run"
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Trial(BaseModel):
    """The same rows tuned by ``steps``: ``seconds`` a row, and the perceptual ``distances`` of the rows at the end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[int, Field(ge=0, le=100_000)]
    seconds: Finite
    distances: tuple[Finite, ...]


def _growing(trials: Sequence[Trial]) -> Sequence[Trial]:
    steps = [trial.steps for trial in trials]
    if steps[0] != 0 or steps != sorted(set(steps)):
        raise ValueError("trials don't begin without steps and grow")
    return trials


Trials = Annotated[tuple[Trial, ...], Field(min_length=1), AfterValidator(_growing)]


class Way(BaseModel):
    """One more way to invert the rows, with its trials: by another ``encoder`` (none: the run's own), then ``refine``.

    ``hashes`` are those of the files that it reads. Without tuning among ``refine`` it has one trial.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str = ""
    refine: tuple[str, ...] = ()
    hashes: dict[str, str] = {}
    trials: Trials

    def __str__(self) -> str:
        return ": ".join(part for part in (self.encoder, ", ".join(self.refine)) if part)


class Table(BaseModel):
    """Trials of rows of the run ``source``, first without steps, then with more and more, and those of ``others``.

    ``starts`` are the distances at the pivots, ``encode_s`` the seconds a row of the encoder, ``look_s`` those of a
    look at what it found (older tables have both in ``encode_s``), and ``setting`` is what all of it depends on:
    networks, the parameters of tuning, the kind of device. Trials have equal steps for all rows; ``mixed`` is what rows
    with steps of their own take beside the look, over what their trials say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    setting: dict[str, Any]
    source: str
    encode_s: Finite
    look_s: Finite = 0.0
    starts: Annotated[tuple[Finite, ...], Field(min_length=1)]
    trials: Annotated[Trials, Field(min_length=2)]
    others: tuple[Way, ...] = ()
    mixed: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _check(self) -> "Table":
        trials = [*self.trials, *(trial for way in self.others for trial in way.trials)]
        if any(len(trial.distances) != len(self.starts) for trial in trials):
            raise ValueError("a trial has other rows")
        return self

    def ways(self, refine: Sequence[str]) -> list[Way]:
        """Return all ways: that of the run, whose refinements are ``refine``, and then the others."""
        return [Way(refine=tuple(refine), trials=self.trials), *self.others]


def write_table(path: str, table: Table) -> None:
    """Write a table, in place of one that is there."""
    write_bytes(path, (json.dumps(table.model_dump(mode="json"), indent=1) + "\n").encode())


def check_target(path: str) -> None:
    """Raise ``DataError`` if a file is at ``path`` that is no table: one that is measured would take its place."""
    if exists(path):
        try:
            Table.model_validate_json(read_bytes(path))
        except ValidationError:
            raise DataError(f"{path} holds something else, no table: move it away, or set models.inversion") from None


def read_table(path: str, setting: Mapping[str, Any]) -> tuple[Table, str]:
    """Return a table and its sha256.

    Raises ``ParamsError`` without one or with one of another ``setting``, and ``DataError`` for a damaged file.
    """
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise ParamsError(f"invert: there is no table of steps in {path}: {MAKE}") from None
    try:
        table = Table.model_validate_json(data)
    except ValidationError:
        raise DataError(f"{path} holds no table of steps: {MAKE}") from None
    other = [name for name in setting if table.setting.get(name) != setting[name]]
    if other:
        raise ParamsError(f"{path} was measured with another {', '.join(other)}: {MAKE} anew")
    return table, hashlib.sha256(data).hexdigest()


class Choice(NamedTuple):
    """How a row is inverted: by which way of a table, and with how many steps of tuning."""

    way: int
    steps: int


def ends_with_look(choice: Choice, refine: Sequence[str]) -> bool:
    """Tell whether a row is done once it was looked at: by ``refine``, the run's own, without a step of tuning."""
    return choice == Choice(0, 0) and list(refine) == [ALONE]


class _Curve:
    """What a way takes and brings: ``seconds`` and mean distances for each of ``counts`` steps."""

    def __init__(self, way: Way, before_s: float, mixed: float) -> None:
        self.steps = [trial.steps for trial in way.trials]
        self.counts = np.arange(self.steps[-1] + 1)
        self.tried = before_s + mixed * np.maximum.accumulate([trial.seconds for trial in way.trials])
        self.seconds = np.interp(self.counts, self.steps, self.tried)
        self.distances = np.minimum.accumulate([trial.distances for trial in way.trials])

    def means(self, rows: np.ndarray) -> np.ndarray:
        return np.interp(np.log1p(self.counts), np.log1p(self.steps), self.distances[:, rows].mean(1))


class _Plan:
    """What the rows of each of ``parts`` get; ``without`` is a choice that it doesn't have."""

    def __init__(
        self, curves: Sequence[_Curve], parts: Sequence[np.ndarray], looks: bool, without: Choice | None
    ) -> None:
        self.curves, self.parts, self.looks, self._without = curves, parts, looks, without
        self._shares = [len(part) / sum(map(len, parts)) for part in parts]
        self.least = min(second for second, _ in self._options())
        self.choices: list[Choice] = []

    def seconds(self, choice: Choice) -> float:
        seconds = self.curves[choice.way].seconds
        return float(seconds[min(choice.steps, len(seconds) - 1)])

    def mean_seconds(self) -> float:
        """Return what a row takes on average."""
        return sum(s * self.seconds(choice) for s, choice in zip(self._shares, self.choices, strict=True))

    def mean_distance(self) -> float:
        """Return how far away a row is at the end on average."""
        pairs = zip(self.parts, self.choices, strict=True)
        ends = [self.curves[choice.way].means(part)[choice.steps] for part, choice in pairs]
        return float(np.dot(self._shares, ends))

    def reach(self, target: Gate, groups: Sequence[np.ndarray]) -> bool:
        """Choose for each part the cheapest trial by which enough rows of each of its groups are there.

        Where there is none it is the one with most. Return whether there is one for all parts.
        """
        trials = sorted(
            (curve.tried[i], way, i)
            for way, curve in enumerate(self.curves)
            for i in range(len(curve.steps))
            if Choice(way, curve.steps[i]) != self._without
        )
        self.choices, all_there = [], True
        for part in self.parts:
            members = [group for group in groups if np.isin(group, part).all()]
            shares = [
                min((self.curves[way].distances[i, group] <= target.limit).mean() for group in members)
                for _, way, i in trials
            ]
            enough = [place for place, share in enumerate(shares) if share >= SHARE]
            best = enough[0] if enough else max(range(len(shares)), key=lambda place: (shares[place], place))
            all_there = all_there and bool(enough)
            _, way, i = trials[best]
            self.choices.append(Choice(way, self.curves[way].steps[i]))
        return all_there

    def spend(self, budget: float) -> None:
        """Choose for each part, so that the mean over rows is ``budget``: steepest slopes first."""
        options = self._options()
        seconds, choices = np.array([second for second, _ in options]), [choice for _, choice in options]
        every = [[curve.means(part) for curve in self.curves] for part in self.parts]
        curves = [np.array([means[way][steps] for way, steps in choices]) for means in every]
        moves = sorted(
            (slope, part, begin, end)
            for part, curve in enumerate(curves)
            for slope, begin, end in _hull(seconds, curve)
        )
        chosen, left = [0] * len(curves), budget - seconds[0]
        for _, part, begin, end in moves:
            within = seconds[begin] + left / self._shares[part]
            last = max(begin, min(end, int(np.searchsorted(seconds, within, side="right")) - 1))
            chosen[part] = min(range(begin, last + 1), key=lambda place: (curves[part][place], -place))
            left -= self._shares[part] * (seconds[chosen[part]] - seconds[begin])
            if chosen[part] < end:
                break
        self.choices = [choices[place] for place in chosen]

    def _options(self) -> list[tuple[float, Choice]]:
        return sorted(
            (second, choice)
            for way, curve in enumerate(self.curves)
            for count, second in zip(curve.counts.tolist(), curve.seconds.tolist(), strict=True)
            if (choice := Choice(way, count)) != self._without
        )


class Allocation:
    """What ``invert`` gives each row by a table, read from ``path``; raises ``ParamsError`` if it can't.

    ``refine`` are the run's own refinements. ``looks`` tells whether rows have to be looked at first: the same for all
    rows without a look is taken where it brings at least as much.
    """

    def __init__(self, invert: InvertParams, table: Table, path: str, refine: Sequence[str] = (ALONE,)) -> None:
        self.ways = table.ways(refine)
        starts = np.array(table.starts)
        bins = max(1, min(BINS, len(starts) // ROWS_OF_BIN))
        groups = np.array_split(np.argsort(starts, kind="stable"), bins)
        before_s = table.encode_s + table.look_s
        looking = _Plan([_Curve(way, before_s, table.mixed) for way in self.ways], groups, True, None)
        without = Choice(0, 0) if ends_with_look(Choice(0, 0), refine) else None
        blind = _Plan([_Curve(way, table.encode_s, 1.0) for way in self.ways], [np.arange(len(starts))], False, without)
        if invert.budget_s is not None:
            self._plan = _by_budget(invert.budget_s, looking, blind, path)
        elif invert.target is not None:
            self._plan = _by_target(invert.target, looking, blind, groups, path)
        self.looks = self._plan.looks
        self._edges = [float(starts[part[0]]) for part in self._plan.parts[1:]]

    def choose(self, starts: Sequence[float]) -> list[Choice]:
        """Return what is done with rows whose pivots are so far from their pictures."""
        return [self._plan.choices[bisect_right(self._edges, start)] for start in starts]

    def for_all(self, count: int) -> list[Choice]:
        """Return what is done with so many rows that aren't looked at."""
        return self._plan.choices * count

    def seconds(self, choice: Choice) -> float:
        """Return what the table says that a row's inversion takes, from its aligned image on."""
        return self._plan.seconds(choice)


def _by_budget(budget: float, looking: _Plan, blind: _Plan, path: str) -> _Plan:
    able = [plan for plan in (blind, looking) if plan.least <= budget]
    if not able:
        least = min(looking.least, blind.least)
        raise ParamsError(
            f"invert.budget_s is {budget:g}, and by {path} no way takes less than {least:.3g} s a row: give at least "
            "so much"
        )
    for plan in able:
        plan.spend(budget)
    return min(able, key=lambda plan: float(f"{plan.mean_distance():.6g}"))  # sums of other parts round otherwise


def _by_target(target: Gate, looking: _Plan, blind: _Plan, groups: Sequence[np.ndarray], path: str) -> _Plan:
    if (nearest := min(curve.distances.min() for curve in looking.curves)) > target.limit:
        raise ParamsError(
            f"invert.target: none of the {sum(map(len, groups))} rows of {path} reached {target}; the nearest came "
            f"to {nearest:.3g} within {max(curve.steps[-1] for curve in looking.curves)} steps"
        )
    looking.reach(target, groups)
    return blind if blind.reach(target, groups) and blind.mean_seconds() <= looking.mean_seconds() else looking


def _hull(seconds: np.ndarray, curve: np.ndarray) -> list[tuple[float, int, int]]:
    """Return the falling edges of the lower convex hull of a curve: slope, first and last place, steepest first."""
    corners = [0]
    for place in range(1, len(curve)):
        while len(corners) > 1 and _slope(seconds, curve, corners[-1], place) <= _slope(
            seconds, curve, corners[-2], corners[-1]
        ):
            corners.pop()
        corners.append(place)
    edges = [(_slope(seconds, curve, a, b), a, b) for a, b in pairwise(corners)]
    return [edge for edge in edges if edge[0] < 0]


def _slope(seconds: np.ndarray, curve: np.ndarray, begin: int, end: int) -> float:
    taken = max(seconds[end] - seconds[begin], 1e-12)
    return float((curve[end] - curve[begin]) / taken)
