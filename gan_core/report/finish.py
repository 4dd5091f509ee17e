"""Write ``summary.json`` and ``report.html``; skip both if ``finished.json`` shows the same results."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from gan_core.judges.domain import find_limits
from gan_core.recipes.base import recipe_of
from gan_core.report.dataset_card import write_cards
from gan_core.report.gating import LEDGER, clear_ledger, judge, summarise_gates, write_ledger
from gan_core.report.report import REPORT, write_report
from gan_core.runs.run import FINISHED_FILE, Run, describe_run
from gan_core.runs.summary import SUMMARY_FILE, add_to_summary, gate_numbers, load_summary
from gan_core.storage.atomic import write_bytes
from gan_core.storage.receipts import canonical_json, code_version, read_json
from gan_core.storage.urls import hash_file, join_url

VERSION = 5
"""Is raised with a change in what summaries, reports or dataset cards say of the same shards."""

Result = tuple[str, str, str]
"""Stage, shard and sha256 of what is in it."""


def finish_run(run: Run, results: Iterable[Result]) -> dict[str, float]:
    """Write ``summary.json`` and ``report.html`` as the recipe says, unless they are there for these results already.

    A run with gates gets ``gates.parquet`` too, and what the gates say is in its summary. Returns the run's metrics and
    the numbers of its gates. ``finished.json``, written last, holds the sha256 of the run with its results and of these
    files.
    """
    digest = _digest(run, results)
    if _read(run.output) == _describe(run, digest):
        with suppress(ValueError):  # somebody has written another summary, and its hash down
            return _numbers(run)
    recipe_of(run).summarise(run)
    _judge(run)
    write_report(run)
    write_cards(run)
    finished = json.dumps(_describe(run, digest), indent=1) + "\n"
    write_bytes(run.path(FINISHED_FILE), finished.encode())
    return _numbers(run)


def _judge(run: Run) -> None:
    if not run.params.gates:
        clear_ledger(run)
        return
    verdicts = judge(run)
    write_ledger(run, verdicts)
    add_to_summary(run.output, summarise_gates(verdicts))


def _numbers(run: Run) -> dict[str, float]:
    summary = load_summary(run.output)
    return {**summary["metrics"], **gate_numbers(summary)}


def _digest(run: Run, results: Iterable[Result]) -> str:
    told: dict[str, Any] = {"code": code_version(VERSION), "run": describe_run(run), "results": sorted(results)}
    if domain := find_limits(run.params.models.domain, run.identities.get("encode", {})):
        told["domain"] = [limit.model_dump() for limit in domain]
    return hashlib.sha256(canonical_json(told).encode()).hexdigest()


def _describe(run: Run, digest: str) -> dict[str, str]:
    names = (SUMMARY_FILE, REPORT, *([LEDGER] if run.params.gates else []))
    try:
        files = {name: hash_file(run.path(name)) for name in names}
    except (FileNotFoundError, IsADirectoryError):
        return {}
    return {"results": digest} | files


def _read(output: str) -> object:
    """What is in ``finished.json``; it is only compared."""
    try:
        return read_json(join_url(output, FINISHED_FILE))
    except (FileNotFoundError, ValueError):
        return None
