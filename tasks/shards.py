"""The Prefect task of a stage over one shard: networks loaded once, infrastructure errors retried."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypedDict, TypeVar, cast

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Cancelled

from gan_core.precision import prepare_worker
from gan_core.recipes.base import recipe_of
from gan_core.runs.run import Run
from gan_core.runs.run_stage import find_finished, run_stage
from gan_core.runs.stage import Stage
from gan_core.stopping import Stopped, check_stop, name_work, stop_requested
from gan_core.storage.receipts import ABSENT, Receipt
from gan_core.storage.shards import BASE_NAMES, read_rows
from gan_core.storage.urls import is_store_error
from gan_core.wording import counted
from tasks.logs import without_user_errors
from tasks.slots import concurrency_slot, slot_name

SAY_EVERY_S = 10.0
SAY_REJECTED = 5
_thread = threading.local()
T = TypeVar("T")


class Done(TypedDict):
    """What a stage task returns: a summary of the shard's receipt."""

    stage: str
    shard: str
    rows: dict[str, int]
    output_sha256: str
    seconds: float
    skipped: bool


def hide_success() -> None:
    """Drop Prefect's line "Finished in state Completed()": tasks log more about themselves. Failures stay.

    So are the ends of tasks that were stopped dropped, which the command tells of once. Of a mistake in the input the
    line with its message stays, and the traceback is only in the debug log.
    """
    logging.getLogger("prefect.task_runs").addFilter(_is_no_success)
    logging.getLogger("prefect.task_runs").addFilter(without_user_errors)


def _is_no_success(record: logging.LogRecord) -> bool:
    said, run_id = record.getMessage(), str(getattr(record, "flow_run_id", ""))
    return said != "Finished in state Completed()" and not (stop_requested(run_id) and said.startswith("Finished in"))


def is_infrastructure(task: Any, run: Any, state: Any) -> bool:
    """Tell whether a failed task may succeed when tried again: a store or a network failed, not the data."""
    error = state.data
    lasting = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
    broken = isinstance(error, OSError) and not lasting and not type(error).__module__.startswith("PIL")
    return broken or is_store_error(error)


ONE_SHARD: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": [1, 5],
    "retry_condition_fn": is_infrastructure,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


@task(name="stage", task_run_name="{stage} {shard}", **ONE_SHARD)
def one_stage(stage: str, run: Run, shard: str) -> Done:
    """Take one shard through a stage unless its receipt is valid, and log the result."""
    hide_success()
    return or_cancelled(lambda: _one_stage(stage, run, shard))


def or_cancelled(work: Callable[[], T]) -> T:
    """Return what ``work`` does, or where it is stopped the state in which its task ends then.

    The work has the name of its flow run: a process of a Dask cluster may do that of several.
    """
    name_work(str(flow_run.id))
    try:
        check_stop()
        return work()
    except Stopped as stopped:
        return cast(T, Cancelled(message=str(stopped)))


def _one_stage(stage: str, run: Run, shard: str) -> Done:
    say = get_run_logger().info
    made = _stage(stage, run)
    with concurrency_slot(slot_name(run.params.run.concurrency_limit, made.compute.device)):
        receipt = run_stage(made, shard, run.output, _progress(say, run.rows[shard]))
    done = summarise_receipt(shard, receipt)
    say(_sentence(done, receipt.flags, receipt.why))
    if not receipt.reused:
        for line in rejected_rows(stage, run.shard(stage, shard)):
            say(line)
    return done


def stage_task(stage: str) -> Task[..., Done]:
    """Return the task of a stage, under the stage's name."""
    return one_stage.with_options(name=stage)


def rejected_rows(stage: str, shard: str) -> Iterator[str]:
    """Yield a line with key, status and reason of the first rows that a stage has rejected, and one on the others."""
    rows = (row for part in read_rows(shard, list(BASE_NAMES)) for row in part)
    turned = (row for row in rows if row["status"] != "ok" and row["stage"] == stage)
    for row in islice(turned, SAY_REJECTED):
        yield f"{row['key']}: {row['status']}: {row['reason']}"
    if more := sum(1 for _ in turned):
        yield f"{counted(more, 'more row')} rejected: their reasons are in {shard}, and in the report"


def finished_shards(run: Run) -> list[Done]:
    """Return what is finished of the shards of ``run``, up to each shard's first stage with work to do."""
    done = []
    for shard in run.shards:
        check_stop()
        for name in run.stages:
            receipt = find_finished(_stage(name, run), shard, run.output)
            if receipt is None:
                break
            done.append(summarise_receipt(shard, receipt))
    return done


def summarise_receipt(shard: str, receipt: Receipt) -> Done:
    """Return what Prefect keeps of a shard's receipt."""
    return Done(
        stage=receipt.stage,
        shard=shard,
        rows=receipt.rows,
        output_sha256=receipt.output_sha256,
        seconds=receipt.seconds,
        skipped=receipt.reused,
    )


def _stage(name: str, run: Run) -> Stage:
    """Return this thread's own stage: stages gather statistics and tuning changes weights, so threads share none.

    One torch thread each keeps results independent of the number of workers.
    """
    wanted = (run.recipe, name, run.source, run.params, run.identities.get(name))
    built: dict[str, tuple[Any, Stage]] = _thread.__dict__.setdefault("stages", {})
    if name not in built or built[name][0] != wanted:
        prepare_worker()
        built[name] = wanted, recipe_of(run).build_stage(name, run.params, run.source)
    return built[name][1]


def _progress(say: Callable[[str], None], total: int) -> Callable[[int], None]:
    begin = last = time.monotonic()
    done = 0

    def progress(rows: int) -> None:
        nonlocal done, last
        done, now = done + rows, time.monotonic()
        if done < total and now - last >= SAY_EVERY_S:
            last = now
            say(f"{done} of {counted(total, 'row')}, {done / (now - begin):.3g} rows/s")

    return progress


def _sentence(done: Done, flags: Mapping[str, int], why: str) -> str:
    ok, total = done["rows"].get("ok", 0), sum(done["rows"].values())
    flagged = "".join(f" ({n} {flag})" for flag, n in flags.items())
    counts = f"{ok} ok{flagged}, {total - ok} rejected"
    if done["skipped"]:
        return f"skipped, finished before: {counts}"
    again = "" if why == ABSENT else f"; made again: {why}"
    return f"{counts}, {total / max(done['seconds'], 1e-9):.3g} rows/s{again}"
