"""The rows of a run that pass its gates, as shards of a dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from gan_core.browse.marks import REJECTED, read_marks
from gan_core.errors import DataError
from gan_core.report.gating import Verdicts, judge, summarise_gates
from gan_core.runs.run import Run
from gan_core.runs.summary import GATES
from gan_core.storage.receipts import content_key, write_receipt
from gan_core.storage.shards import BASE_NAMES, ShardWriter, open_shard, read_rows
from gan_core.wording import counted


def passing_rows(run: Run) -> "Passing | None":
    """Judge the rows of a finished run; None for one without gates and without rows that a person has rejected.

    Raises ``DataError`` if no row passes.
    """
    rejected = any(said.mark == REJECTED for said in read_marks(run.output).values())
    return judge_rows(run) if run.params.gates or rejected else None


def judge_rows(run: Run) -> "Passing":
    """Judge the rows of a finished run: those pass that are ``ok``, pass all gates and were not rejected by a person.

    Raises ``DataError`` if no row passes.
    """
    marked = {key for key, said in read_marks(run.output).items() if said.mark == REJECTED}
    for shard in run.shards:
        run.require_receipt(run.stages[-1], shard)
    verdicts = judge(run)
    keys = (
        row["key"]
        for shard in run.shards
        for rows in read_rows(run.shard(run.stages[-1], shard), ["key"])
        for row in rows
    )
    unwanted = np.array([key in marked for key in keys])
    passed = verdicts.passed & ~unwanted
    by_hand = int((verdicts.passed & unwanted).sum())
    passing = Passing(run, verdicts, passed, by_hand, summarise_gates(verdicts))
    if not passed.any():
        raise DataError(f"no row of {run.output} can be published ({passing.left_out}): choose other gates or marks")
    return passing


@dataclass(frozen=True)
class Passing:
    """Which rows of a run pass its gates and were not rejected by a person.

    ``passed`` is a bool for each row, in the order of the shards; ``by_hand`` counts the rows that pass all gates and
    that a person has rejected. ``summary`` says how many rows the gates keep, as ``summary.json`` does.
    """

    run: Run
    verdicts: Verdicts
    passed: np.ndarray
    by_hand: int
    summary: Mapping[str, Any]

    @property
    def told(self) -> dict[str, Any]:
        """What ``origin.json`` says: ``summary``, and how many rows are published and how many a person rejected."""
        by_hand = {"rejected_by_hand": self.by_hand} if self.by_hand else {}
        return {**self.summary, "published": int(self.passed.sum()), **by_hand}

    @property
    def said(self) -> str:
        """One line: how many rows are published and how many are not, by gate and by status."""
        why = f": {self.left_out}" if self.left_out else ""
        return f"{int(self.passed.sum())} of {counted(sum(self.run.rows.values()), 'row')}{why}"

    @property
    def left_out(self) -> str:
        """How many rows fail each gate, how many a person rejected, and how many were rejected with each status."""
        told = self.summary[GATES]
        by_gate = ", ".join(f"{each['gate']}: {each['failed']}" for each in told["each"])
        by_status = ", ".join(f"{status}: {n}" for status, n in told["rejected"].items())
        gates = [f"{told['failed']} fail a gate ({by_gate})"] if by_gate else []
        by_hand = [f"{self.by_hand} rejected by hand"] if self.by_hand else []
        rejected = [f"{sum(told['rejected'].values())} rejected before ({by_status})"] if by_status else []
        return ", ".join([*gates, *by_hand, *rejected])

    def has(self, shard: str) -> bool:
        """Tell whether a row of a shard passes."""
        return bool(self.of(shard).any())

    def of(self, shard: str) -> np.ndarray:
        """Return which rows of a shard pass: bool, by position."""
        first = self.verdicts.first[shard]
        return self.passed[first : first + self.run.rows[shard]]

    def why_not(self, shard: str, position: int) -> str:
        """Say why a row that is ``ok`` doesn't pass."""
        row = self.verdicts.first[shard] + position
        failed = self.verdicts.failed_by(row) if self.verdicts.gates else []
        return "; ".join(judged.explain(row) for judged in failed) or "rejected by hand"

    def copy(self, stage: str, shard: str, target: str) -> None:
        """Write the passing rows of a shard after ``stage``, and a receipt of the gates and of which passed."""
        self._write_receipt(stage, shard, target, self.write(stage, shard, target))

    def write(self, stage: str, shard: str, target: str) -> ShardWriter:
        """Write the passing rows of a shard after ``stage``; the writer that is returned has counted them."""
        passed, source = self.of(shard), self.run.shard(stage, shard)
        with open_shard(source) as file:
            fields = [field for field in file.schema_arrow if field.name not in BASE_NAMES]
        with ShardWriter(target, fields) as writer:
            position = 0
            for rows in read_rows(source):
                writer.write([row for i, row in enumerate(rows, position) if passed[i]])
                position += len(rows)
        return writer

    def _write_receipt(self, stage: str, shard: str, target: str, writer: ShardWriter) -> None:
        made = self.run.require_receipt(stage, shard)
        limits = {each["gate"]: each["limit"] for each in self.summary[GATES]["each"]}
        identity = {**made.identity, GATES: limits}
        if self.by_hand:  # gates alone say which rows pass
            identity["passed_sha256"] = sha256(self.of(shard).tobytes()).hexdigest()
        told = {
            "key": content_key(stage, made.code_version, identity, made.input_keys),
            "identity": identity,
            "output_sha256": writer.sha256,
            "rows": dict(writer.statuses),
            "flags": dict(writer.flags),
            "statistics_sha256": None,
        }
        write_receipt(target, made.model_copy(update=told))
