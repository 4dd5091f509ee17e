"""Runs in MLflow: what a run was made with and what came out of it.

Tracking never stops a run: what is to be logged is first written to ``OUTPUT/pending.json``, and stays there for
``edit-dataset sync`` when the tracking server can't be reached. ``OUTPUT/tracking.json`` has what was logged last;
whether it still is in MLflow, only MLflow tells.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from prefect import get_run_logger

from gan_core.errors import UserError
from gan_core.runs.run import PENDING, TRACKED, Run, load_run
from gan_core.secrets import hide, hide_all
from gan_core.storage.atomic import remove
from gan_core.storage.urls import join_url
from tasks.record import (
    Record,
    digest_work,
    make_record,
    read_record,
    remake_record,
    write_record,
)
from tasks.shards import Done, summarise_receipt
from tasks.system_metrics import Monitor, Sample, is_wanted, sampling
from tasks.tracking.address import ADDRESSES, address_of, tracking_uri, usable
from tasks.tracking.client import PARAMS_FILE, TrackingError, client_of, long_params, say
from tasks.tracking.upload import find_run, upload, upload_failure


class Logged(NamedTuple):
    """A run in MLflow, at an address without its password; ``new`` if it has just been logged."""

    run_id: str
    uri: str
    new: bool


def track(
    run: Run, done: list[Done], metrics: dict[str, float], started: float, samples: Sequence[Sample] = ()
) -> str | None:
    """Log a finished run and return its MLflow id; what is in MLflow is not logged twice, and no failure is raised."""
    logger = get_run_logger()
    record, half = make_record(run, done, metrics, started, samples), read_record(run.output)
    waiting = record.model_copy(update={"run_id": half.run_id if half else None})
    write_record(run.output, waiting)
    try:
        if earlier := find_logged(run, record.digest, record.made):
            remove(run.path(PENDING))
            logger.info("in MLflow already (%s), as run %s", earlier.uri, earlier.run_id)
            return earlier.run_id
        for name in long_params(record.params):
            logger.info(
                "%s is too long for MLflow: it gets the beginning and a sha256, and %s the whole", name, PARAMS_FILE
            )
        logged = _send(load_run(run.output), waiting, force=True)
    except UserError as error:
        logger.warning("%s", error)
        return None
    logger.info("logged to MLflow (%s) as run %s", logged.uri, logged.run_id)
    return logged.run_id


@contextmanager
def failures_tracked(run: Run, started: float) -> Iterator[list[Sample]]:
    """Log a run that fails or is cancelled in this block, with its parameters and the error; the error goes on.

    Yields the list of system metrics, if they are wanted; it grows until the block ends.
    """
    samples: list[Sample] = []
    try:
        with sampling(_monitors() if is_wanted(run.params.track) else []) as samples:
            yield samples
    except BaseException as error:
        said = hide_all(": ".join([type(error).__name__, *filter(None, [str(error)])]))
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            upload_failure(tracking_uri(run.params.track), make_record(run, [], {}, started, samples), said, status)
        except Exception as mlflow_error:
            get_run_logger().warning("not logged to MLflow: %s", say(mlflow_error))
        raise


def _monitors() -> list[Monitor]:
    from mlflow.system_metrics.metrics import cpu_monitor, disk_monitor, gpu_monitor, network_monitor

    kinds = (cpu_monitor.CPUMonitor, disk_monitor.DiskMonitor, network_monitor.NetworkMonitor, gpu_monitor.GPUMonitor)
    monitors: list[Monitor] = []
    for kind in kinds:
        with suppress(Exception):  # there is no GPU, or the machine doesn't tell
            monitors.append(kind())
    return monitors


def watch_system(run_id: str, uri: str) -> Callable[[], None]:
    """Have MLflow log this machine's load to a run that goes on, until what is returned is called."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)
    monitor.start()
    return monitor.finish


def sync(output: str, uri: str = "", force: bool = False) -> Logged:
    """Log a finished run unless it is in MLflow, where that is asked, not a file here; return its run there.

    It is logged to ``uri``, else where its parameters say; with ``force`` also if it is there already. A run that was
    only partly logged before is deleted, so that nothing appears twice. Raises ``TrackingError``, and ``DataError``
    for a run that isn't finished.
    """
    run = load_run(output)
    return _send(run, _current_record(run), uri, force)


def _send(run: Run, record: Record, uri: str = "", force: bool = False) -> Logged:
    address, output = uri or _address(run, record), run.output
    with _sync_errors(address, output):
        whole = usable(address)
        client = client_of(whole)
        earlier = None if force else find_run(client, output, record.experiment, record.digest, record.made)
        run_id = earlier or upload(client, whole, output, record)
    tracked = record.model_copy(update={"run_id": run_id, "uri": hide(address)})
    if read_record(output, TRACKED) != tracked:
        write_record(output, tracked, TRACKED)
    remove(join_url(output, PENDING))
    return Logged(run_id, hide(whole), earlier is None)


def _current_record(run: Run) -> Record:
    """What was written down when a run was tracked, unless its shards were made anew since, as ``dvc repro`` does."""
    record = read_record(run.output) or read_record(run.output, TRACKED)
    if record is None:
        return remake_record(run)
    receipts = [(shard, run.receipt(stage, shard)[0]) for stage in run.stages for shard in run.shards]
    done = [summarise_receipt(shard, receipt) for shard, receipt in receipts if receipt is not None]
    renewed = record.made and len(done) == len(receipts) and record.made != digest_work(run, done)
    return remake_record(run).model_copy(update={"run_id": record.run_id}) if renewed else record


def find_logged(run: Run, digest: str, made: str) -> Logged | None:
    """Return the run in MLflow that has these results of a run, if it is there; raises ``TrackingError``."""
    address = address_of(run.params.track)
    with _sync_errors(address, run.output):
        whole = usable(address)
        found = find_run(client_of(whole), run.output, run.params.track.experiment, digest, made)
    return Logged(found, hide(whole), False) if found else None


@contextmanager
def _sync_errors(address: str, output: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise TrackingError(f"{error}; later, `edit-dataset sync {output}`") from error
    except Exception as error:
        raise TrackingError(
            f"can't log to {hide(address)} ({say(error)}): later, `edit-dataset sync {output}`"
        ) from error


def _address(run: Run, record: Record) -> str:
    """Where a run is to be logged now: as its parameters or the environment say, else as when it ended."""
    return run.params.track.uri or os.environ.get(ADDRESSES[0]) or record.uri
