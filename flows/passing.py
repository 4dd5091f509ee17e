"""The rows of a run that pass its gates, as shards of a dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gan_core.errors import DataError
from gan_core.report.gating import Verdicts, judge, summarise_gates
from gan_core.runs.run import Run
from gan_core.runs.summary import GATES
from gan_core.storage.receipts import content_key, write_receipt
from gan_core.storage.shards import BASE_NAMES, ShardWriter, open_shard, read_rows


@dataclass(frozen=True)
class Passing:
    """A run with gates, and which of its rows pass; ``summary`` says how many, as ``summary.json`` does."""

    run: Run
    verdicts: Verdicts
    summary: Mapping[str, Any]

    @classmethod
    def of(cls, run: Run) -> Self:
        """Judge the rows of a finished run; raises ``DataError`` if none passes."""
        verdicts = judge(run)
        passing = cls(run, verdicts, summarise_gates(verdicts))
        if not verdicts.passed.any():
            raise DataError(f"no row of {run.output} can be published ({passing.left_out}): choose other gates")
        return passing

    @property
    def said(self) -> str:
        """One line: how many rows are published and how many are not, by gate and by status."""
        return f"{self.summary[GATES]['passed']} of {sum(self.run.rows.values())} rows: {self.left_out}"

    @property
    def left_out(self) -> str:
        """How many rows fail each gate, and how many were rejected with each status."""
        told = self.summary[GATES]
        by_gate = ", ".join(f"{each['gate']}: {each['failed']}" for each in told["each"])
        by_status = ", ".join(f"{status}: {n}" for status, n in told["rejected"].items())
        rejected = f", {sum(told['rejected'].values())} rejected before ({by_status})" if by_status else ""
        return f"{told['failed']} fail a gate ({by_gate}){rejected}"

    def copy(self, stage: str, shard: str, target: str) -> None:
        """Write the passing rows of a shard after ``stage``, and a receipt that names the gates; nothing for none."""
        passed, source = self._passed(shard), self.run.shard(stage, shard)
        if not passed.any():
            return
        with open_shard(source) as file:
            fields = [field for field in file.schema_arrow if field.name not in BASE_NAMES]
        with ShardWriter(target, fields) as writer:
            position = 0
            for rows in read_rows(source):
                writer.write([row for i, row in enumerate(rows, position) if passed[i]])
                position += len(rows)
        self._write_receipt(stage, shard, target, writer)

    def _passed(self, shard: str) -> np.ndarray:
        first = self.verdicts.first[shard]
        passed: np.ndarray = self.verdicts.passed[first : first + self.run.rows[shard]]
        return passed

    def _write_receipt(self, stage: str, shard: str, target: str, writer: ShardWriter) -> None:
        made = self.run.require_receipt(stage, shard, "run it again")
        limits = {each["gate"]: each["limit"] for each in self.summary[GATES]["each"]}
        identity = {**made.identity, GATES: limits}
        told = {
            "key": content_key(stage, made.code_version, identity, made.input_keys),
            "identity": identity,
            "output_sha256": writer.sha256,
            "rows": dict(writer.statuses),
            "flags": dict(writer.flags),
            "statistics_sha256": None,
        }
        write_receipt(target, made.model_copy(update=told))
