"""The rows of one or several runs in memory, without their pictures: filter, sort, count, page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from gan_core.browse.marks import UNMARKED
from gan_core.errors import DataError, near_matches
from gan_core.pages.pictures import kept_in_source
from gan_core.rows import composed
from gan_core.runs.run import SOURCE, Run
from gan_core.secrets import hide
from gan_core.storage.shards import holds_images, open_shard
from gan_core.storage.urls import base_name

BINS = 40
"""Bars of a histogram."""
LARGEST_PAGE = 200
DESCRIBING = ("key", "status", "reason", "stage")
PLACE = ("shard", "position")


@dataclass(frozen=True)
class Query:
    """Which rows are wanted, and in which order.

    ``text`` is looked for in keys and reasons; ``ranges`` has the least and the largest value of scores, both included.
    """

    statuses: frozenset[str] = frozenset()
    text: str = ""
    marks: frozenset[str] = frozenset()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    sort: str = "key"
    descending: bool = False


class RowTable:
    """The rows of the first run, with the scores of every run for the same keys.

    ``frame`` has a line for each row: what describes it, its place in the first run, and a column for each number of
    each stage; those of a further run end in ``" · "`` and its name. ``common`` counts by run the rows of the first
    that it has too. Raises ``DataError`` for a shard that isn't there, and for a run that has none of these rows.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = {name: run for name, run in zip(_names(runs), runs, strict=True)}
        frames = {name: _read(run) for name, run in self.runs.items()}
        self._places = {name: _places(frame) for name, frame in frames.items()}
        (first, *others) = frames
        self.common = {name: len(self._places[first].keys() & places.keys()) for name, places in self._places.items()}
        if strangers := [name for name in others if not self.common[name]]:
            raise DataError(f"{strangers[0]} has no row of {first}: name runs over the same dataset")
        frame = frames[first]
        for name in others:
            other = frames[name].drop(columns=list(PLACE))
            renamed = {column: f"{column} · {name}" for column in other if column != "key"}
            frame = frame.merge(other.rename(columns=renamed), on="key", how="left")
        self.frame = frame
        numbers = frame.select_dtypes("number").columns
        self.scores = [str(name) for name in numbers if name not in PLACE]
        self._order: dict[str, np.ndarray] = {}

    def select(self, query: Query, marks: Mapping[str, str]) -> np.ndarray:
        """Return the numbers of the lines that a query asks for, in its order; ``marks`` has marks by key.

        Raises ``DataError`` for a column that isn't there.
        """
        frame, wanted = self.frame, np.ones(len(self.frame), bool)
        if query.statuses:
            wanted &= frame["status"].isin(query.statuses).to_numpy()
        if query.text:
            wanted &= self._contains(query.text)
        if query.marks:
            wanted &= frame["key"].map(lambda key: marks.get(key, UNMARKED)).isin(query.marks).to_numpy()
        for name, (low, high) in query.ranges.items():
            wanted &= frame[self._known(name)].between(low, high).to_numpy()
        values = self._ranks(query.sort) if query.sort in DESCRIBING else frame[self._known(query.sort)].to_numpy(float)
        found = np.flatnonzero(wanted)
        order = np.argsort(-values[found] if query.descending else values[found], kind="stable")  # NaN comes last
        return found[order]

    def histogram(self, name: str, lines: np.ndarray) -> dict[str, list[float]]:
        """Return the edges of ``BINS`` bars over a score, and how many rows of all and of these lines each has."""
        values = self.frame[self._known(name)].to_numpy(float)
        finite = values[np.isfinite(values)]
        if not len(finite):
            return {"edges": [], "all": [], "selected": []}
        low, high = float(finite.min()), float(finite.max())
        if high - low <= 1e-9 * max(abs(low), abs(high), 1.0):  # too near for the edges of bars between them
            low, high = low - 0.5, high + 0.5
        everything, edges = np.histogram(finite, BINS, (low, high))
        chosen = values[lines]
        selected, _ = np.histogram(chosen[np.isfinite(chosen)], edges)
        return {"edges": edges.tolist(), "all": everything.tolist(), "selected": selected.tolist()}

    def counts(self, column: str) -> dict[str, int]:
        """Count all rows by a describing column, most frequent first."""
        return {str(value): int(count) for value, count in self.frame[column].value_counts().items()}

    def place(self, name: str, key: str) -> tuple[str, int] | None:
        """Return shard and position of a key in a run, None where that run doesn't have it."""
        return self._places[name].get(key)

    def _ranks(self, name: str) -> np.ndarray:
        """The place of each line in the order of a column of texts."""
        if name not in self._order:
            self._order[name] = pd.factorize(self.frame[name], sort=True)[0].astype(float)
        return self._order[name]

    def _contains(self, text: str) -> np.ndarray:
        return self._texts.str.contains(composed(text).lower(), regex=False).to_numpy(bool)

    @cached_property
    def _texts(self) -> pd.Series:
        """Key and reason of each row, as they are searched: any form of Unicode, and of upper and lower case."""
        return (self.frame["key"] + "\n" + self.frame["reason"]).map(composed).str.lower()

    def _known(self, name: str) -> str:
        if name not in self.scores:
            raise DataError(f"there is no score {name!r}{near_matches(name, self.scores)}")
        return name


def picture_columns(run: Run) -> list[tuple[str, str]]:
    """Return stage and column of every picture that the rows of a run have, the source's first."""
    stages = [SOURCE, *run.stages] if kept_in_source(run, run.shards[0], {0}) else list(run.stages)
    found = []
    for stage in stages:
        with open_shard(run.shard(stage, run.shards[0])) as file:
            found += [(stage, column.name) for column in file.schema_arrow if holds_images(column.type)]
    return found


def _names(runs: Sequence[Run]) -> list[str]:
    """The folders' names, or their whole addresses where two have the same."""
    names = [base_name(run.output) for run in runs]
    return names if len(set(names)) == len(names) else [hide(run.output) for run in runs]


def _read(run: Run) -> pd.DataFrame:
    """Read what describes the rows, and every number of every stage, which all have the rows in the same order."""
    parts = []
    for shard in run.shards:
        columns: dict[str, Any] = {}
        for stage in run.stages:
            with open_shard(run.shard(stage, shard)) as file:
                wanted = [c.name for c in file.schema_arrow if c.name in DESCRIBING or _is_number(c.type)]
                columns |= file.read(columns=wanted).to_pandas().to_dict("series")
        part = pd.DataFrame(columns)
        parts.append(part.assign(shard=shard, position=np.arange(len(part))))
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(shard=frame["shard"].astype("category"), reason=frame["reason"].fillna(""))


def _places(frame: pd.DataFrame) -> dict[str, tuple[str, int]]:
    columns = (frame[name].tolist() for name in ("key", *PLACE))
    return {str(key): (str(shard), int(position)) for key, shard, position in zip(*columns, strict=True)}


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
