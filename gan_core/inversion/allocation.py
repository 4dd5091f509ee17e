"""How many steps of tuning each row gets: from a table of what steps cost and bring, measured on rows like them.

Rows differ in how far their pivot is from their picture, and this is known before tuning. The rows of the table are
cut by that distance into bins, and each bin has its own curve of the distance over steps. A budget is spent on the
steps that lower the mean distance most for their seconds (the lower convex hulls of the curves).
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gan_core.budgets import InvertParams
from gan_core.errors import DataError, ParamsError
from gan_core.storage.atomic import write_bytes
from gan_core.storage.urls import read_bytes

BINS = 8
ROWS_OF_BIN = 4
"""A bin's curve is the mean of at least so many rows."""
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


class Table(BaseModel):
    """Trials of rows of the run ``source``, first without steps, then with more and more.

    ``starts`` are the distances at the pivots, ``encode_s`` the seconds a row of the encoder, and ``setting`` is what
    all of it depends on: networks, the parameters of tuning, the kind of device.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    setting: dict[str, Any]
    source: str
    encode_s: Finite
    starts: Annotated[tuple[Finite, ...], Field(min_length=1)]
    trials: Annotated[tuple[Trial, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _check(self) -> "Table":
        steps = [trial.steps for trial in self.trials]
        if steps[0] != 0 or steps != sorted(set(steps)):
            raise ValueError("trials don't begin without steps and grow")
        if any(len(trial.distances) != len(self.starts) for trial in self.trials):
            raise ValueError("a trial has other rows")
        return self


def write_table(path: str, table: Table) -> None:
    """Write a table, in place of one that is there."""
    write_bytes(path, (json.dumps(table.model_dump(mode="json"), indent=1) + "\n").encode())


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


class Allocation:
    """The steps that ``invert`` gives each row by a table, read from ``path``; raises ``ParamsError`` if it can't."""

    def __init__(self, invert: InvertParams, table: Table, path: str) -> None:
        steps = [trial.steps for trial in table.trials]
        counts = np.arange(steps[-1] + 1)
        seconds = np.maximum.accumulate([trial.seconds for trial in table.trials])
        self._seconds = table.encode_s + np.interp(counts, steps, seconds)
        starts = np.array(table.starts)
        distances = np.minimum.accumulate([trial.distances for trial in table.trials])
        bins = max(1, min(BINS, len(starts) // ROWS_OF_BIN))
        parts = np.array_split(np.argsort(starts, kind="stable"), bins)
        self._edges = [float(starts[part[0]]) for part in parts[1:]]
        if invert.budget_s is not None:
            curves = [np.interp(np.log1p(counts), np.log1p(steps), distances[:, p].mean(1)) for p in parts]
            shares = [len(part) / len(starts) for part in parts]
            self._steps = self._spend(invert.budget_s, curves, shares, path)
        elif invert.target is not None:
            limit = invert.target.limit
            if distances.min() > limit:
                raise ParamsError(
                    f"invert.target: none of the {len(starts)} rows of {path} reached {invert.target}; the nearest "
                    f"came to {distances.min():.3g} within {steps[-1]} steps"
                )
            self._steps = [_first(steps, (distances[:, part] <= limit).mean(1)) for part in parts]

    def steps(self, starts: Sequence[float]) -> list[int]:
        """Return the steps of rows whose pivots are so far from their pictures."""
        return [self._steps[bisect_right(self._edges, start)] for start in starts]

    def seconds(self, steps: int) -> float:
        """Return what the table says that a row's inversion with so many steps takes."""
        return float(self._seconds[min(steps, len(self._seconds) - 1)])

    def _spend(self, budget: float, curves: Sequence[np.ndarray], shares: Sequence[float], path: str) -> list[int]:
        least = self._seconds[0]
        if budget < least:
            raise ParamsError(
                f"invert.budget_s is {budget:g}, and by {path} the encoder and a look at its picture alone take "
                f"{least:.3g} s a row: give at least so much"
            )
        moves = sorted(
            (slope, part, begin, end)
            for part, curve in enumerate(curves)
            for slope, begin, end in _hull(self._seconds, curve)
        )
        chosen, left = [0] * len(curves), budget - least
        for _, part, begin, end in moves:
            within = self._seconds[begin] + left / shares[part]
            chosen[part] = min(end, int(np.searchsorted(self._seconds, within, side="right")) - 1)
            left -= shares[part] * (self._seconds[chosen[part]] - self._seconds[begin])
            if chosen[part] < end:
                break
        return chosen


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


def _first(steps: Sequence[int], shares: np.ndarray) -> int:
    """Return the fewest steps by which enough rows are there, else the most that were tried."""
    enough = np.flatnonzero(shares >= SHARE)
    return steps[enough[0]] if len(enough) else steps[-1]
