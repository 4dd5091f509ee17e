"""Where the tasks of a run are executed: threads, processes of this host, or the processes of a Dask cluster."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.ledger import collect
from gan_core.errors import ParamsError
from gan_core.params import RunParams
from gan_core.run.job import Job
from tasks.shards import Done
from tasks.skip import skip

Runner = TaskRunner[Any]
Tasks = Mapping[str, Task[..., Done]]
SHARDS_PER_WORKER = 4
SHARDS_PER_LOOK = 50


def make_runner(params: RunParams) -> Runner:
    """Return the runner that ``run.runner`` names, with ``run.workers`` places; raises ``ParamsError`` without Dask.

    Every place loads its networks once and keeps them. A Dask cluster that is there already (``run.dask_address``) has
    as many places as it has.
    """
    if params.runner == "processes":
        return ProcessPoolTaskRunner(max_workers=params.workers)
    if params.runner == "dask":
        return _dask(params)
    return ThreadPoolTaskRunner(max_workers=params.workers)


def run_shards(job: Job, tasks: Tasks) -> list[Done]:
    """Send each shard through the tasks of the job's stages, where it isn't finished; return what was done, in order.

    Raises the first error of a shard when all others have ended.
    """
    with make_runner(job.params.run) as runner:
        looks = [runner.submit(skip, {"job": part, "shards": _names(part)}) for part in _split(job, SHARDS_PER_LOOK)]
        finished = [done for look in looks for done in look.result()]
        return collect(job, finished, list(submit_shards(job, runner, tasks, finished)))


def submit_shards(
    job: Job, runner: Runner, tasks: Tasks, finished: Iterable[Done] = ()
) -> Iterator[PrefectFuture[Done]]:
    """Submit the tasks of all stages of all shards that aren't finished, a few shards for each worker at a time.

    Stage after stage within such a group: workers seldom wait for a shard's previous stage, and early shards end early.
    A task is given its own shard's part of the job: what Prefect does with arguments grows with their size.
    """
    skipped = {(done["stage"], done["shard"]) for done in finished}
    for group in _split(job, SHARDS_PER_WORKER * job.params.run.workers):
        last: dict[str, PrefectFuture[Done]] = {}
        for stage in job.stages:
            for part in _split(group, 1):
                (shard,) = part.shards
                if (stage, shard) not in skipped:
                    wait_for = [last[shard]] if shard in last else None
                    last[shard] = runner.submit(tasks[stage], {"job": part, "shard": shard}, wait_for=wait_for)
                    yield last[shard]


def _split(job: Job, size: int) -> Iterator[Job]:
    """Yield the job by ``size`` shards."""
    for first in range(0, len(job.shards), size):
        yield replace(job, rows={shard: job.rows[shard] for shard in job.shards[first : first + size]})


def _names(job: Job) -> str:
    return job.shards[0] if len(job.shards) == 1 else f"{job.shards[0]} to {job.shards[-1]}"


def _dask(params: RunParams) -> Runner:
    try:
        runner = import_module("prefect_dask").DaskTaskRunner
    except ImportError:
        raise ParamsError(
            "run.runner is dask, which is not installed: pip install -e '.[dask]' -c constraints.txt"
        ) from None
    if params.dask_address:
        found: Runner = runner(address=params.dask_address)
        return found
    places = {"n_workers": params.workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    own: Runner = runner(cluster_kwargs=places | {"host": "127.0.0.1"})
    return own
