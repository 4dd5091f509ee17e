"""Where the tasks of a run are executed: threads, processes of this host, or the processes of a Dask cluster."""

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any

from prefect import Task
from prefect.exceptions import ExternalSignal
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.ledger import collect
from gan_core.background import in_background
from gan_core.device import KINDS, find_device
from gan_core.errors import ParamsError
from gan_core.params import RunParams
from gan_core.runs.run import Run
from gan_core.stopping import Stopped, check_stop, forget_stop, request_stop, stop_requested
from tasks.dask_worker import end_tasks
from tasks.processes import make_counter, make_flag, prepare_process
from tasks.shards import Done, stage_task
from tasks.skip import skip

Runner = TaskRunner[Any]
SHARDS_PER_WORKER = 4
SHARDS_PER_LOOK = 50
LOOK_EVERY_S = 0.2
"""How often is looked whether Dask's processes have to be told of Ctrl-C; a batch takes longer."""


def make_runner(params: RunParams) -> Runner:
    """Return the runner that ``run.runner`` names, with ``run.workers`` workers; raises ``ParamsError`` without Dask.

    Every worker loads its networks once and keeps them. Worker processes take a card each in turn, where ``run.device``
    is one without a number. An existing Dask cluster (``run.dask_address``) keeps its own workers and their cards.
    """
    if params.runner == "processes":
        given = (make_flag(), make_counter())
        return ProcessPoolTaskRunner(max_workers=params.workers, initializer=prepare_process, initargs=given)
    if params.runner == "dask":
        return _dask(params)
    return ThreadPoolTaskRunner(max_workers=params.workers)


def run_shards(run: Run) -> list[Done]:
    """Send each shard through the tasks of the run's stages, where it isn't finished; return what was done, in order.

    Raises the first error of a shard when all others have ended, and ``Stopped`` if the work is asked to stop. Where
    Prefect ends this process (SIGTERM, a cancelled deployment), its signal goes on after the batches in work.
    """
    futures: list[PrefectFuture[Done]] = []
    with ExitStack() as stack:
        with deaf_to_interrupts():
            runner = stack.enter_context(make_runner(run.params.run))
            stack.enter_context(_stops_reach(runner))
            parts = _split(run, SHARDS_PER_LOOK)
            looks = [runner.submit(skip, {"run": part, "shards": _names(part)}) for part in parts]
        try:
            finished = [done for look in looks for done in _result(look)]
            with deaf_to_interrupts():
                futures += submit_shards(run, runner, finished)
            return collect(run, finished, futures)
        except (Stopped, ExternalSignal):
            request_stop()
            _let_end(runner, futures)
            raise


@contextmanager
def _stops_reach(runner: Runner) -> Iterator[None]:
    """While the block runs, tell the processes of a Dask cluster when the work is asked to stop: they share no memory.

    All workers are told again and again, as new ones may have joined; other commands' work on the cluster goes on.
    """
    if not hasattr(runner, "client"):
        yield
        return
    client, name = runner.client, str(flow_run.id)
    client.run(forget_stop, name, on_error="ignore")  # a flow run that was stopped, and is now made once more

    def tell(ended: threading.Event) -> None:
        while not ended.wait(LOOK_EVERY_S):
            if stop_requested():
                client.run(request_stop, name, on_error="ignore")

    with in_background(tell, "tell Dask of stops"):
        yield


def _let_end(runner: Runner, futures: Iterable[PrefectFuture[Done]]) -> None:
    """Wait until a Dask cluster has ended the tasks in work, which it would kill in the middle when it is closed."""
    if hasattr(runner, "client"):
        tasks = [future.wrapped_future for future in futures if not future.state.is_final()]  # type: ignore[attr-defined]
        runner.client.cancel(tasks[::-1])  # a task would fail where one that it waits for is cancelled before it
        runner.client.run(end_tasks, [task.key for task in tasks], on_error="ignore")


def _result(look: PrefectFuture[list[Done]]) -> list[Done]:
    look.wait()
    check_stop()
    return look.result()


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Let threads and processes that are started in the block be spared by Ctrl-C, which is this thread's matter."""
    resource_tracker.ensure_running()  # type: ignore[attr-defined]  # its start, with the first process, would end that
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def submit_shards(
    run: Run, runner: Runner, finished: Iterable[Done] = (), task_of: Callable[[str], Task[..., Done]] = stage_task
) -> Iterator[PrefectFuture[Done]]:
    """Submit the tasks of all stages of all shards that aren't finished, a few shards for each worker at a time.

    Stage after stage within such a group: workers seldom wait for a shard's previous stage, and early shards end early.
    A task is given its own shard's part of the run: what Prefect does with arguments grows with their size.
    """
    skipped = {(done["stage"], done["shard"]) for done in finished}
    tasks = {stage: task_of(stage) for stage in run.stages}
    for group in _split(run, SHARDS_PER_WORKER * run.params.run.workers):
        last: dict[str, PrefectFuture[Done]] = {}
        for stage in run.stages:
            for part in _split(group, 1):
                (shard,) = part.shards
                if (stage, shard) not in skipped:
                    wait_for = [last[shard]] if shard in last else None
                    last[shard] = runner.submit(
                        tasks[stage], {"stage": stage, "run": part, "shard": shard}, wait_for=wait_for
                    )
                    yield last[shard]


def _split(run: Run, size: int) -> Iterator[Run]:
    """Yield the run by ``size`` shards."""
    for first in range(0, len(run.shards), size):
        yield replace(run, rows={shard: run.rows[shard] for shard in run.shards[first : first + size]})


def _names(run: Run) -> str:
    return run.shards[0] if len(run.shards) == 1 else f"{run.shards[0]} to {run.shards[-1]}"


def _dask(params: RunParams) -> Runner:
    try:
        runner = import_module("prefect_dask").DaskTaskRunner
    except ImportError:
        raise ParamsError(
            "run.runner is dask, which is not installed: pip install -e '.[dask]' -c constraints.txt"
        ) from None
    logging.getLogger("distributed").setLevel(logging.ERROR)  # it tells of each worker that comes or goes
    if params.dask_address:
        found: Runner = runner(address=params.dask_address)
        return found
    places: dict[str, Any] = {"n_workers": params.workers, "threads_per_worker": 1, "dashboard_address": None}
    own: Runner = runner(**_cluster(params, places | {"host": "127.0.0.1"}))
    return own


def _cluster(params: RunParams, places: dict[str, Any]) -> dict[str, Any]:
    """The cluster that a run starts itself: that of ``dask-cuda`` on cards where it is installed, else Dask's own."""
    if find_device(params.device).kind == "cuda" and ":" not in params.device and find_spec("dask_cuda"):
        cards = min(params.workers, KINDS["cuda"].count())  # it has a worker a card, and shows each its own first
        return {"cluster_class": "dask_cuda.LocalCUDACluster", "cluster_kwargs": places | {"n_workers": cards}}
    return {"cluster_kwargs": places | {"processes": True, "preload": ["tasks.dask_worker"]}}
