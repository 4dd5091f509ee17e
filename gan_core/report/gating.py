"""Judge the finished rows of a run by its gates, from the scores in its shards: the ledger, and what is told of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gan_core.edits.plan import known_edits
from gan_core.errors import DataError, ParamsError
from gan_core.gates import Gate
from gan_core.metrics.names import find_columns
from gan_core.recipes.base import recipe_of
from gan_core.runs.run import Run
from gan_core.runs.summary import GATES
from gan_core.storage.atomic import atomic_write, remove
from gan_core.storage.shards import BASE_FIELDS, BASE_NAMES, open_shard

LEDGER = "gates.parquet"
NOT_MEASURED = "not measured"
LEDGER_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string()),
        *BASE_FIELDS,
        pa.field("passed", pa.bool_()),
        pa.field("failed", pa.list_(pa.string())),
        pa.field("why", pa.string()),
    ]
)


@dataclass(frozen=True)
class Judged:
    """A gate over all ``N`` rows of a run, with its limit; ``None``: no row has a score that it could be taken from.

    ``values`` are float32, of the ``columns`` of a row that the gate is about the score that is nearest to failing, and
    ``which`` the index of that column; NaN where one of them was not measured. ``about`` are the ``ok`` rows that the
    gate judges.
    """

    gate: Gate
    columns: tuple[str, ...]
    limit: float | None
    values: np.ndarray
    which: np.ndarray
    about: np.ndarray

    @cached_property
    def failed(self) -> np.ndarray:
        """Which rows fail, those that were not measured among them: bool ``[N]``."""
        failed: np.ndarray = self.about & ~self.gate.passes(self.values, self.limit)
        return failed

    @property
    def missing(self) -> np.ndarray:
        """Which of the rows that it judges were not measured: bool ``[N]``."""
        missing: np.ndarray = self.about & np.isnan(self.values)
        return missing

    def explain(self, row: int) -> str:
        """Say in a few words why a row fails or passes."""
        column = self.columns[self.which[row]]
        value = NOT_MEASURED if np.isnan(self.values[row]) else f"{self.values[row]:.4g}"
        limit = f" (limit {self.limit:.4g})" if self.gate.quantile and self.limit is not None else ""
        return f"{self.gate}: {column} is {value}{limit}"


@dataclass(frozen=True)
class Verdicts:
    """All gates over all ``N`` rows, in the order of the shards; ``statuses`` counts the rows that are not ``ok``.

    ``first`` is the number of the first row of each shard.
    """

    gates: Sequence[Judged]
    ok: np.ndarray
    statuses: Counter[str]
    first: dict[str, int]

    @cached_property
    def failures(self) -> np.ndarray:
        """How many gates each row fails: ``[N]``."""
        failed = np.array([judged.failed for judged in self.gates])
        return failed.sum(axis=0, dtype=np.int16)

    @property
    def passed(self) -> np.ndarray:
        """Which rows are ``ok`` and pass all gates: bool ``[N]``."""
        passed: np.ndarray = self.ok & (self.failures == 0)
        return passed

    def alone(self, judged: Judged) -> int:
        """Count the rows that fail this gate and no other."""
        return int((judged.failed & (self.failures == 1)).sum())

    def place(self, row: int) -> tuple[str, int]:
        """Return the shard of a row, and its position there."""
        shard = max((name for name in self.first if self.first[name] <= row), key=self.first.__getitem__)
        return shard, int(row - self.first[shard])

    def failed_by(self, row: int) -> list[Judged]:
        """Return the gates that a row fails."""
        return [judged for judged in self.gates if judged.failed[row]] if self.failures[row] else []


def judge(run: Run) -> Verdicts:
    """Judge all rows of a finished run.

    Raises ``DataError`` for a missing or damaged shard, and ``ParamsError`` for a score that the run doesn't have.
    """
    recipe, edits = recipe_of(run), known_edits(run.params.edits)
    names = recipe.score_names(run)
    try:
        columns = [tuple(find_columns(gate.score, names, edits)) for gate in run.params.gates]
    except ParamsError as error:
        raise ParamsError(f"gates of {run.output}: {error}") from None
    first = dict(zip(run.shards, accumulate(run.rows.values(), initial=0), strict=False))
    found = _Found(len(columns), sum(run.rows.values()))
    for shard in run.shards:
        for part in recipe.scored(run, shard):
            found.add(part, first[shard], columns, run.params.gates)
    judged = [
        Judged(gate, columns[i], gate.place(found.values[i][found.about[i]]), found.values[i], found.which[i], about)
        for i, (gate, about) in enumerate(zip(run.params.gates, found.about, strict=True))
    ]
    return Verdicts(judged, found.ok, found.statuses, first)


class _Found:
    """What is known of all rows so far, by gate."""

    def __init__(self, gates: int, rows: int) -> None:
        self.values = np.full((gates, rows), np.nan, np.float32)
        self.which = np.zeros((gates, rows), np.int16)
        self.about = np.zeros((gates, rows), bool)
        self.ok = np.zeros(rows, bool)
        self.statuses: Counter[str] = Counter()

    def add(self, part: pd.DataFrame, first: int, columns: Sequence[tuple[str, ...]], gates: Sequence[Gate]) -> None:
        ok = (part["status"] == "ok").to_numpy()
        self.statuses.update(part["status"][~ok])
        places = first + part.index.to_numpy()[ok]
        self.ok[places] = True
        for i, (gate, names) in enumerate(zip(gates, columns, strict=True)):
            own = [k for k, name in enumerate(names) if name in part]
            if own and len(places):
                scores = part.loc[ok, [names[k] for k in own]].to_numpy(np.float32)
                self.values[i, places], nearest = nearest_to_failing(gate, scores)
                self.which[i, places] = np.asarray(own, np.int16)[nearest]
                self.about[i, places] = True


def nearest_to_failing(gate: Gate, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores ``[N, K]`` -> of each row the one that is nearest to failing, NaN if one is missing; and which it is."""
    known = np.where(np.isfinite(scores), scores, np.nan)
    ranked = np.where(np.isnan(known), np.inf, -known if gate.higher else known)  # a missing one fails first
    which = ranked.argmax(1)
    return known[np.arange(len(known)), which], which


def write_ledger(run: Run, verdicts: Verdicts) -> None:
    """Write ``gates.parquet``: every row of the run, with the gates that it fails and why."""
    recipe = recipe_of(run)
    with atomic_write(run.path(LEDGER)) as file, pq.ParquetWriter(file, LEDGER_SCHEMA, compression="zstd") as writer:
        for shard in run.shards:
            rows = pd.concat([part[[*BASE_NAMES]] for part in recipe.scored(run, shard)]).sort_index()
            rows.insert(0, "shard", shard)
            numbers = range(verdicts.first[shard], verdicts.first[shard] + len(rows))
            failed = [verdicts.failed_by(number) for number in numbers]
            rows["passed"] = verdicts.passed[numbers.start : numbers.stop]
            rows["failed"] = [[str(judged.gate) for judged in each] for each in failed]
            rows["why"] = ["; ".join(j.explain(n) for j in each) for n, each in zip(numbers, failed, strict=True)]
            writer.write_table(pa.Table.from_pandas(rows, LEDGER_SCHEMA, preserve_index=False))


def clear_ledger(run: Run) -> None:
    """Remove the ledger of gates that the run no longer has; a file of another kind stays."""
    try:
        with open_shard(run.path(LEDGER)) as file:
            ours = file.schema_arrow.names == LEDGER_SCHEMA.names
    except DataError:
        return
    if ours:
        remove(run.path(LEDGER))


def summarise_gates(verdicts: Verdicts) -> dict[str, Any]:
    """Return what ``summary.json`` says of the gates: rows that pass and fail, and the same of each gate.

    ``failed_alone`` are the rows that fail no other gate, ``rejected`` counts by status those that no gate judged.
    """
    passed = int(verdicts.passed.sum())
    each = [
        {
            "gate": str(judged.gate),
            "scores": list(judged.columns),
            "limit": judged.limit,
            "judged": int(judged.about.sum()),
            "failed": int(judged.failed.sum()),
            "failed_alone": verdicts.alone(judged),
            "not_measured": int(judged.missing.sum()),
        }
        for judged in verdicts.gates
    ]
    failed, rejected = int(verdicts.ok.sum()) - passed, dict(sorted(verdicts.statuses.items()))
    return {GATES: {"passed": passed, "failed": failed, "rejected": rejected, "each": each}}
