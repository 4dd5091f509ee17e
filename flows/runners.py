"""Where the tasks of a run are executed: threads, processes of this host, or the processes of a Dask cluster."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from gan_core.errors import ParamsError
from gan_core.params import RunParams
from gan_core.runs import Job
from tasks.shards import Done

Runner = TaskRunner[Any]
Tasks = Mapping[str, Task[..., Done]]
SHARDS_PER_WORKER = 4


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


def submit_shards(job: Job, runner: Runner, tasks: Tasks) -> Iterator[PrefectFuture[Done]]:
    """Send each shard through the tasks of the job's stages, a few shards for each worker at a time.

    Stage after stage within such a group: workers seldom wait for a shard's previous stage, and early shards end early.
    """
    group = SHARDS_PER_WORKER * job.params.run.workers
    for first in range(0, len(job.shards), group):
        last: dict[str, PrefectFuture[Done]] = {}
        for stage in job.stages:
            for shard in job.shards[first : first + group]:
                wait_for = [last[shard]] if shard in last else None
                last[shard] = runner.submit(tasks[stage], {"job": job, "shard": shard}, wait_for=wait_for)
                yield last[shard]


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
