"""A run over several hosts: batches of shards are child runs of a deployment, and a dead worker loses only its batch.

The hosts share only the storage and the server's address: a child run renews a small heartbeat file beside the run,
and its finished shards are stored there with receipts.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from uuid import UUID

import httpx
from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelling, Crashed

from flows.ledger import hide_lost_tracebacks
from flows.runners import run_shards
from gan_core.background import in_background
from gan_core.errors import DataError, ParamsError
from gan_core.runs.run import Run, load_run
from gan_core.stopping import STOPPED, Stopped, check_stop, forget_stop, request_stop, stop_requested
from gan_core.storage.atomic import remove, write_bytes
from gan_core.storage.holding import holder_of, tolerant
from gan_core.storage.receipts import Receipt, read_receipt
from gan_core.storage.urls import exists, join_url, read_bytes
from tasks.shards import Done, summarise_receipt

ALIVE = "alive"
BEAT_S = 5.0
SILENCE_S = 60.0
CLAIMED_S = 300.0
POLL_S = 2.0
UNTAKEN_S = 60.0
UNTAKEN = ("Scheduled", "Late")
"""Names of the states of a child run that no worker has taken."""
TRIES = 3


@dataclass
class Batch:
    """Some shards of a run, the child run that has them now, and how often they have been handed out.

    ``since`` is when its state or its heartbeat last changed, by this machine's own clock.
    """

    shards: list[str]
    run_id: UUID
    tries: int = 1
    since: float = field(default_factory=time.monotonic)
    state: str = ""
    beat: bytes = b""

    def waits(self) -> bool:
        """Tell whether no worker has taken it for long."""
        return self.state in UNTAKEN and time.monotonic() - self.since > UNTAKEN_S


@flow(name="edit-shards", flow_run_name="{output} {shards[0]} …")
def edit_shards(output: str, shards: list[str]) -> None:
    """Take some shards of a run through all its stages; runs with ``run.deployment`` hand them out.

    It belongs to whoever holds the run when it begins, and stops when somebody else does.

    Args:
        output: The folder or URL of a run that has begun; its run.json says what is done.
        shards: The names of the shards, such as shard-00000.parquet.
    """
    hide_lost_tracebacks()
    run, holder = load_run(output), holder_of(output)
    part = replace(run, rows={shard: run.rows[shard] for shard in shards})

    def stop_for_another() -> None:
        if holder_of(output) != holder:
            request_stop()

    try:
        with beating(beat_path(output, str(flow_run.id)), meanwhile=stop_for_another):
            run_shards(part)
    except Stopped:
        raise DataError(f"{output} is no longer held by the command that handed this batch out") from None
    finally:
        forget_stop()


def hand_out(run: Run) -> list[Done]:
    """Spread the shards of a run over child runs and wait for all; return what was done, in order.

    A child run that crashed, or that sent no heartbeat for ``SILENCE_S``, is abandoned, and another one continues its
    batch, ``TRIES`` times in all. Raises ``DataError`` for batches that failed, when the others have ended, and
    ``Stopped`` if the work is asked to stop: the child runs are cancelled then.
    """
    say, before = get_run_logger().info, dict(_receipts(run))
    _check_deployment(run.params.run.deployment)
    size = run.params.run.shards_per_batch
    batches = [_start(run, list(run.shards[i : i + size])) for i in range(0, len(run.shards), size)]
    say("%d batches of at most %d shards handed out to %s", len(batches), size, run.params.run.deployment)
    failed: list[str] = []
    told = False
    while batches:
        time.sleep(POLL_S)
        if stop_requested():
            _cancel(batches)
            check_stop()
        batches = [kept for batch in batches if (kept := _follow(run, batch, failed)) is not None]
        if not told and batches and all(batch.waits() for batch in batches):
            told = True
            get_run_logger().warning(
                "no worker has taken a batch for %d s: is one running, and is its work pool not paused?", UNTAKEN_S
            )
    if failed:
        raise DataError(f"finished shards are kept, run again to go on; {len(failed)} batches failed: {failed[0]}")
    return [_done(run, stage, shard, before) for stage in run.stages for shard in run.shards]


def beat_path(output: str, run_id: str) -> str:
    """Return the heartbeat file of a child run."""
    return join_url(output, ALIVE, run_id)


@contextmanager
def beating(path: str, every: float = BEAT_S, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Renew the heartbeat file ``path``, and call ``meanwhile``, until the block ends; then remove the file.

    A beat that the store does not take is left out.
    """

    def beat(ended: threading.Event) -> None:
        while not ended.is_set():
            with tolerant():
                write_bytes(path, str(time.time()).encode())
            with tolerant():
                meanwhile()
            ended.wait(every)

    try:
        with in_background(beat, f"beat {path}"):
            yield
    finally:
        with tolerant():
            remove(path)


def _start(run: Run, shards: list[str]) -> Batch:
    parameters = {"output": run.output, "shards": shards}
    child: FlowRun = run_deployment(run.params.run.deployment, parameters=parameters, timeout=0)  # type: ignore[assignment]
    return Batch(shards, child.id)


def _check_deployment(name: str) -> None:
    try:
        with get_client(sync_client=True) as client:
            client.read_deployment_by_name(name)
    except (ObjectNotFound, ValueError):
        raise ParamsError(
            f"run.deployment: there is no deployment {name!r} (FLOW/NAME): `prefect deployment ls` lists them, "
            "`edit-dataset server up` makes them"
        ) from None


def _cancel(batches: list[Batch]) -> None:
    with get_client(sync_client=True) as client:
        for batch in batches:
            with suppress(httpx.HTTPError):  # a server that is gone tells no worker
                client.set_flow_run_state(batch.run_id, Cancelling(message=STOPPED))


def _follow(run: Run, batch: Batch, failed: list[str]) -> Batch | None:
    """Check a batch: return it while it runs, its replacement if its child run is lost, None when it has ended."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(batch.run_id).state
        except ObjectNotFound:
            state = Crashed(message="its flow run was deleted")
        if state is not None and _lost(run, batch, state):
            lost: State = Crashed(message=f"its worker sent no heartbeat while the run was {str(state.name).lower()}")
            client.set_flow_run_state(batch.run_id, lost, force=True)
            state = lost
    if state is None or not state.is_final():
        return batch
    return None if state.is_completed() else _after_failure(run, batch, state, failed)


def _after_failure(run: Run, batch: Batch, state: State, failed: list[str]) -> Batch | None:
    remove(beat_path(run.output, str(batch.run_id)))
    logger, name = get_run_logger(), f"{batch.shards[0]} and {len(batch.shards) - 1} more"
    if state.is_crashed() and batch.tries < TRIES:
        logger.warning("the worker of %s is lost (%s): handed out again", name, state.message)
        return replace(_start(run, batch.shards), tries=batch.tries + 1)
    failed.append(f"{name}: {state.message}")
    return None


def _lost(run: Run, batch: Batch, state: State, now: Callable[[], float] = time.monotonic) -> bool:
    """Tell whether a child that was claimed never began, or has not renewed its file for too long."""
    path = beat_path(run.output, str(batch.run_id))
    beat = read_bytes(path) if exists(path) else b""
    name = str(state.name)
    if (name, beat) != (batch.state, batch.beat):
        batch.state, batch.beat, batch.since = name, beat, now()
    patience = SILENCE_S if state.is_running() else CLAIMED_S
    return (state.is_running() or state.is_pending()) and now() - batch.since > patience


def _receipts(run: Run) -> Iterator[tuple[tuple[str, str], Receipt | None]]:
    for stage in run.stages:
        for shard in run.shards:
            yield (stage, shard), read_receipt(run.shard(stage, shard))


def _done(run: Run, stage: str, shard: str, before: dict[tuple[str, str], Receipt | None]) -> Done:
    receipt: Receipt = run.require_receipt(stage, shard)
    reused = before.get((stage, shard)) == receipt
    return summarise_receipt(shard, receipt.model_copy(update={"reused": reused}))
