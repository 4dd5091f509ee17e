"""The rows of a run as the report needs them: all scores as numbers, and a few rows picked to be shown."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa

from gan_core.report.metrics import parse_score
from gan_core.runs.run import Run
from gan_core.storage.shards import BASE_NAMES, open_shard
from gan_core.storage.urls import join_url

SAMPLE_ROWS = 12
WORST_ROWS = 8
SHARDS_AT_ONCE = 50
FAILED_ROWS = 48
FAILED_ROWS_A_STATUS = 8
RANKED_BY = (("identity", "tuned"), ("identity", "encoded"), ("lpips", "tuned"), ("lpips", "encoded"))


@dataclass(frozen=True)
class Line:
    """One row that is shown, with the place that its pictures are found at."""

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

    ``ranked_by`` names the score that ``worst`` is sorted by, ``None`` where a run has none to sort by.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    sample: list[Line] = field(default_factory=list)
    worst: list[Line] = field(default_factory=list)
    failed: list[Line] = field(default_factory=list)
    ranked_by: str | None = None

    @property
    def ok(self) -> int:
        """The number of rows that went through all stages."""
        return sum(n for (status, _), n in self.counts.items() if status == "ok")

    @property
    def total(self) -> int:
        """The number of all rows."""
        return self.counts.total()


def read_rows_of(run: Run) -> Rows:
    """Go through the last stage's shards, some at a time; only numbers are kept of the rows that aren't picked."""
    rows, picked, parts = Rows(), Picked(), []
    for first in range(0, len(run.shards), SHARDS_AT_ONCE):
        frames = [_read_frame(run, shard) for shard in run.shards[first : first + SHARDS_AT_ONCE]]
        frame = pd.concat(frames, ignore_index=True)
        rows.counts.update(zip(frame["status"], frame["stage"], strict=True))
        fine = frame[frame["status"] == "ok"]
        rows.flags.update(reason.partition(":")[0] for reason in fine["reason"] if reason)
        rows.ranked_by = rank_score(fine.columns)
        picked.add(fine, frame[frame["status"] != "ok"], rows.ranked_by)
        parts.append(fine[_score_names(fine)].astype(np.float32))
    scores = pd.concat(parts, ignore_index=True)
    rows.values = {str(name): column[np.isfinite(column)].to_numpy() for name, column in scores.items()}
    rows.sample, rows.worst, rows.failed = (_lines(part) for part in (picked.sample, picked.worst, picked.failed))
    return rows


def rank_score(names: "pd.Index[str]") -> str | None:
    """Choose the score that tells the worst rows: identity after tuning if there is one."""
    scores = [parse_score(name) for name in names]
    for metric, picture in RANKED_BY:
        for score in scores:
            if (score.metric, score.picture) == (metric, picture):
                return score.name
    return None


class Picked:
    """The rows to show, of those seen so far: the first by hash of their key, the worst, and some of each failure."""

    def __init__(self) -> None:
        self.sample = self.worst = self.failed = pd.DataFrame()

    def add(self, fine: pd.DataFrame, failed: pd.DataFrame, ranked_by: str | None) -> None:
        """Take the rows of some more shards into account."""
        self.sample = pd.concat([self.sample, fine]).sort_values("hash", kind="stable").head(SAMPLE_ROWS)
        if ranked_by:
            higher = parse_score(ranked_by).meaning.better == "higher"
            candidates = pd.concat([self.worst, fine[np.isfinite(fine[ranked_by])]])
            self.worst = candidates.sort_values(ranked_by, ascending=higher, kind="stable").head(WORST_ROWS)
        some = pd.concat([self.failed, failed]).groupby("status", sort=False).head(FAILED_ROWS_A_STATUS)
        self.failed = some.head(FAILED_ROWS)


def _read_frame(run: Run, shard: str) -> pd.DataFrame:
    with open_shard(join_url(run.output, run.stages[-1], shard)) as file:
        scores = [f.name for f in file.schema_arrow if pa.types.is_floating(f.type)]
        frame = file.read(columns=[*BASE_NAMES, *scores]).to_pandas()
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
