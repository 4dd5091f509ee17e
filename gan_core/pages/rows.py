"""The rows of a run as a page needs them: all scores as numbers, and a few rows picked to be shown."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from gan_core.edits.plan import known_edits
from gan_core.metrics.base import ENCODED, TUNED
from gan_core.metrics.names import Score, find_score, normal_name, split_name
from gan_core.runs.run import Run
from gan_core.runs.stage import STAGES
from gan_core.storage.shards import BASE_NAMES, open_shard

SAMPLE_ROWS = 12
WORST_ROWS = 8
SHARDS_AT_ONCE = 50
FAILED_ROWS = 48
FAILED_ROWS_A_STATUS = 8
RANKED_BY = ("identity", "lpips")
"""Scores by which the worst rows are chosen, in order of preference; else the first score that has a better side."""


@dataclass(frozen=True)
class Line:
    """One row that is shown, with the location of its images."""

    shard: str
    position: int
    key: str
    status: str
    reason: str
    stage: str
    scores: dict[str, float]


@dataclass
class Rows:
    """What is known of all rows: counts by status and stage, and by flag; finite values by score; the rows to show.

    ``scores`` are all scores by name, in the order of the columns; ``worst`` is sorted by ``ranked_by``, which is
    ``None`` where a run has no such score.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    scores: dict[str, Score] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    sample: list[Line] = field(default_factory=list)
    worst: list[Line] = field(default_factory=list)
    failed: list[Line] = field(default_factory=list)
    ranked_by: Score | None = None

    @property
    def ok(self) -> int:
        """The number of rows that went through all stages."""
        return sum(n for (status, _), n in self.counts.items() if status == "ok")

    @property
    def total(self) -> int:
        """The number of all rows."""
        return self.counts.total()

    def find(self, metric: str, picture: str) -> Score | None:
        """Return a metric's score of a picture, whatever extractor it is by; ``None`` where it wasn't measured."""
        return next((s for s in self.scores.values() if (s.metric, s.picture) == (metric, picture)), None)

    def same(self, score: Score, picture: str) -> Score | None:
        """Return the same score of another picture, by the same extractor."""
        return self.scores.get(score.of(picture))

    def values_of(self, score: Score | None) -> np.ndarray:
        """Return the finite values of a score, none for ``None``."""
        return self.values.get(score.name, np.empty(0)) if score else np.empty(0)


def read_rows_of(run: Run) -> Rows:
    """Go through the last stage's shards, some at a time; only numbers are kept of the rows that aren't picked."""
    rows, picked, parts, explain = Rows(), Picked(), [], explainer(run)
    for first in range(0, len(run.shards), SHARDS_AT_ONCE):
        frames = [_read_frame(run, shard) for shard in run.shards[first : first + SHARDS_AT_ONCE]]
        frame = pd.concat(frames, ignore_index=True)
        rows.scores |= {name: explain(name) for name in _score_names(frame)}
        rows.counts.update(zip(frame["status"], frame["stage"], strict=True))
        fine = frame[frame["status"] == "ok"]
        rows.flags.update(reason.partition(":")[0] for reason in fine["reason"] if reason)
        rows.ranked_by = rank_score(rows.scores.values())
        picked.add(fine, frame[frame["status"] != "ok"], rows.ranked_by)
        parts.append(fine[_score_names(fine)].astype(np.float32))
    scores = pd.concat(parts, ignore_index=True)
    rows.values = {str(name): column[np.isfinite(column)].to_numpy() for name, column in scores.items()}
    rows.sample, rows.worst, rows.failed = (_lines(part) for part in (picked.sample, picked.worst, picked.examples))
    return rows


def explainer(run: Run) -> Callable[[str], Score]:
    """Return the function that parses and explains the names of a run's columns and totals.

    The run's stages know their own scores, the metrics all others.
    """
    edits = known_edits(run.params.edits)
    stages = [stage for name, stage in STAGES if name in run.stages]
    own = {name: meaning for stage in stages for name, meaning in stage.meanings.items()}

    def explain(name: str) -> Score:
        parts = split_name(name, edits)
        known = own.get(parts.metric) if not parts.extractor else None
        return Score(name, *parts, known) if known else find_score(name, edits)

    return explain


def read_scores(run: Run, shard: str) -> pd.DataFrame:
    """Read a shard of the last stage: key, status, reason, stage, and all scores under the names that they have now."""
    with open_shard(run.shard(run.stages[-1], shard)) as file:
        scores = [field.name for field in file.schema_arrow if pa.types.is_floating(field.type)]
        return file.read(columns=[*BASE_NAMES, *scores]).to_pandas().rename(columns=normal_name)


def read_fine_scores(run: Run, shard: str) -> pd.DataFrame:
    """Do as ``read_scores``, for the rows that are ``ok``; they keep their positions as the index."""
    frame = read_scores(run, shard)
    return frame[frame["status"] == "ok"]


def rank_score(scores: Iterable[Score]) -> Score | None:
    """Choose the score by which the worst rows are chosen: identity after tuning if there is one."""
    scores = list(scores)
    judged = [s for picture in (TUNED, ENCODED) for s in scores if s.picture == picture and s.meaning.better]
    preferred = (score for metric in RANKED_BY for score in judged if score.metric == metric)
    return next(preferred, next(iter(judged), None))


class Picked:
    """The rows to show, of those seen so far: the first by hash of their key, the worst, and some of each failure."""

    def __init__(self) -> None:
        self.sample = self.worst = self.failed = pd.DataFrame()

    def add(self, fine: pd.DataFrame, failed: pd.DataFrame, ranked_by: Score | None) -> None:
        """Take the rows of some more shards into account."""
        self.sample = pd.concat([self.sample, fine]).sort_values("hash", kind="stable").head(SAMPLE_ROWS)
        if ranked_by:
            name, higher = ranked_by.name, ranked_by.meaning.better == "higher"
            candidates = pd.concat([self.worst, fine[np.isfinite(fine[name])]])
            self.worst = candidates.sort_values(name, ascending=higher, kind="stable").head(WORST_ROWS)
        self.failed = _of_each_status(pd.concat([self.failed, failed]), FAILED_ROWS_A_STATUS)

    @property
    def examples(self) -> pd.DataFrame:
        """Some rows of each failure, as many of each as there is room for."""
        statuses = self.failed["status"].nunique() if len(self.failed) else 1
        return _of_each_status(self.failed, max(1, FAILED_ROWS // statuses))


def _of_each_status(failed: pd.DataFrame, most: int) -> pd.DataFrame:
    return failed.groupby("status", sort=False).head(most) if len(failed) else failed


def _read_frame(run: Run, shard: str) -> pd.DataFrame:
    frame = read_scores(run, shard)
    frame.insert(0, "shard", shard)
    frame.insert(1, "position", np.arange(len(frame)))
    frame.insert(2, "hash", [hashlib.sha256(str(key).encode()).hexdigest() for key in frame["key"]])
    return frame


def _score_names(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if name not in (*BASE_NAMES, "shard", "position", "hash")]


def _lines(frame: pd.DataFrame) -> list[Line]:
    names = _score_names(frame)
    return [
        Line(
            **{str(name): row[name] for name in ("shard", "position", *BASE_NAMES)},
            scores={name: float(row[name]) for name in names if np.isfinite(row[name])},
        )
        for row in frame.to_dict("records")
    ]
