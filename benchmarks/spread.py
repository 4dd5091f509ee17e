"""The flows that ``benchmarks.scaling`` measures, importable by the processes that they spread over."""

import time

from prefect import flow, task

from flows.batches import hand_out
from flows.ledger import collect
from flows.runners import make_runner, run_shards, submit_shards
from gan_core.runs.run import Run
from tasks.shards import ONE_SHARD, Done


@task(name="nothing", task_run_name="nothing {shard}", **ONE_SHARD)
def nothing(stage: str, run: Run, shard: str) -> Done:
    """Do nothing for one shard."""
    return Done(stage="nothing", shard=shard, rows={"ok": 1}, output_sha256="", seconds=0.0, skipped=False)


@flow(name="idle", validate_parameters=False)
def idle(first: Run, run: Run) -> tuple[float, float]:
    """Do nothing for every shard; return the seconds of the runner's start with the ``first`` run, and of the other."""
    begin = time.perf_counter()
    with make_runner(run.params.run) as runner:
        collect(first, [], list(submit_shards(first, runner, task_of=lambda _: nothing)))
        started = time.perf_counter()
        collect(run, [], list(submit_shards(run, runner, task_of=lambda _: nothing)))
        return started - begin, time.perf_counter() - started


@flow(name="whole", validate_parameters=False)
def whole(run: Run) -> None:
    """Take all shards through the stages of the run."""
    run_shards(run)


@flow(name="children", validate_parameters=False)
def children(run: Run) -> None:
    """Hand all shards out."""
    hand_out(run)
