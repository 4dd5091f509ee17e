"""The progress of a run while its shards are processed, and its totals when it ends."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import httpx
from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.futures import PrefectFuture

from flows.prefect_api import is_lost
from flows.servers import find, quiet_environment
from gan_core.errors import UserError
from gan_core.report.finish import finish_run
from gan_core.runs.run import Run
from gan_core.runs.summary import GATES, find_summary
from gan_core.secrets import hide
from gan_core.stopping import check_stop
from tasks.logs import drop_traceback, raised
from tasks.shards import Done
from tasks.system_metrics import Sample
from tasks.tracking.address import STORE, address_of
from tasks.tracking.runs import track

SHOWN_METRICS = 40
SHOW_EVERY_S = 2.0


def hide_lost_tracebacks() -> None:
    """Let flows log no traceback of a mistake or of a lost server: the command says so in one line."""
    logging.getLogger("prefect.flow_runs").addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    error = raised(record)
    return drop_traceback(record) if isinstance(error, UserError) or is_lost(error) else True


def collect(run: Run, finished: Iterable[Done], futures: Iterable[PrefectFuture[Done]]) -> list[Done]:
    """Wait for the shards that weren't finished, keeping a progress artifact up to date; return all, in order.

    The first error of a shard is raised when all other shards have ended. Raises ``RuntimeError`` if rows were lost,
    and ``Stopped`` as soon as a shard has ended after the work was asked to stop.
    """
    total = len(run.shards) * len(run.stages)
    artifact: Any = create_progress_artifact(0.0, key="edit-dataset-progress", description=f"shards of {run.output}")
    done = list(finished)
    errors: list[BaseException] = []
    shown = time.monotonic()
    for future in futures:
        future.wait()
        check_stop()
        result = future.state.result(raise_on_failure=False) if future.state.is_final() else None
        if isinstance(result, BaseException):
            errors.append(result)
        elif result is not None:
            done.append(result)
        if time.monotonic() - shown >= SHOW_EVERY_S:
            shown = time.monotonic() if _update(artifact, len(done) / total) else math.inf
    if len(done) == total and shown < math.inf:
        _update(artifact, 1.0)
    _close(run, done, errors)
    return sorted(done, key=lambda each: (run.stages.index(each["stage"]), each["shard"]))


def _update(artifact: Any, share: float) -> bool:
    return _told(partial(update_progress_artifact, artifact, 100 * share))


def _told(tell: Callable[[], object]) -> bool:
    """Report something to Prefect's server; False, after a warning, if it is lost: the run continues without it."""
    try:
        tell()
    except httpx.HTTPError as error:
        get_run_logger().warning("Prefect's server is lost, the work goes on without it: %s", error)
        return False
    return True


def count_rows(done: Iterable[Done]) -> dict[str, Counter[str]]:
    """Return the rows by status after each stage."""
    counts: dict[str, Counter[str]] = {}
    for each in done:
        counts.setdefault(each["stage"], Counter()).update(each["rows"])
    return counts


def finish(
    run: Run,
    done: list[Done],
    started: float,
    samples: Sequence[Sample],
) -> dict[str, float]:
    """Write summary and report, show and log what a run that ``started`` at that time has done; return its metrics."""
    results = ((each["stage"], each["shard"], each["output_sha256"]) for each in done)
    metrics = finish_run(run, results)
    shown = show(run, done, metrics)
    run_id = track(run, done, metrics, started, samples)
    if shown:
        links = partial(create_markdown_artifact, link(run, run_id), key="edit-dataset-links")
        _told(partial(links, description=f"Where the results of {run.output} are"))
    return metrics


def show(run: Run, done: list[Done], metrics: dict[str, float]) -> bool:
    """Put the ledger and the headline metrics into Prefect's tables; False if its server is gone."""
    counts = count_rows(done)
    statuses = sorted({status for stage in counts.values() for status in stage}, key=lambda s: (s != "ok", s))
    ledger = [{"stage": stage, "rows": n.total()} | {s: n[s] for s in statuses} for stage, n in counts.items()]
    if told := find_summary(run.output).get(GATES):
        ledger.append({"stage": GATES, "rows": told["passed"] + told["failed"]} | dict.fromkeys(statuses, 0))
        ledger[-1] |= {"ok": told["passed"]}
        ledger = [line | {"fail a gate": told["failed"] if line["stage"] == GATES else 0} for line in ledger]
    numbers = [{"metric": name, "value": f"{value:.4g}"} for name, value in list(metrics.items())[:SHOWN_METRICS]]
    rows, scores = f"Rows of {run.output} by stage and status", f"Metrics of {run.output}"
    for table, key, said in ((ledger, "edit-dataset-rows", rows), (numbers, "edit-dataset-metrics", scores)):
        if not _told(partial(create_table_artifact, table, key=key, description=said)):
            return False
    return True


def link(run: Run, run_id: str | None) -> str:
    """Say in Markdown where the report is and which MLflow run it is, as a link where MLflow has a page."""
    uri = address_of(run.params.track)
    own = find("mlflow") if uri == quiet_environment()[STORE] else None
    page = uri if uri.startswith("http") else own.url if own else ""
    said = f"[{run_id}]({hide(page)}/#/runs/{run_id})" if page else f"`{run_id}` in `{hide(uri)}`"
    logged = said if run_id else f"not logged yet: `edit-dataset sync {run.output}`"
    return f"- Report: `{run.path('report.html')}`\n- MLflow: {logged}\n"


def _close(run: Run, done: list[Done], errors: list[BaseException]) -> None:
    logger = get_run_logger()
    total = len(run.shards) * len(run.stages)
    skipped = sum(each["skipped"] for each in done)
    logger.info(
        "%d of %d shards skipped, %d made, %d not finished", skipped, total, len(done) - skipped, total - len(done)
    )
    if errors:
        logger.error("finished shards are kept: run again to go on from here")
        raise errors[0]
    for each in done:
        rows = sum(each["rows"].values())
        if rows != run.rows[each["shard"]]:
            raise RuntimeError(
                f"{each['stage']} {each['shard']} has {rows} rows of {run.rows[each['shard']]}: this is a bug"
            )
