"""Runs in MLflow: what a run was made with and what came out of it.

Tracking never stops a run: what is to be logged is first written to ``OUTPUT/pending.json``, and stays there for
``edit-dataset sync`` when the tracking server can't be reached.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from prefect import get_run_logger

from gan_core.errors import UserError
from gan_core.runs.run import PENDING, Run, load_run
from gan_core.storage.atomic import remove, write_bytes
from gan_core.storage.shards import BASE_NAMES
from gan_core.storage.urls import exists, join_url, read_bytes
from tasks.pictures import picture_grids, score_table
from tasks.record import Record, digest_results, make_record, read_record, write_record
from tasks.shards import Done
from tasks.system_metrics import Monitor, Sample, is_wanted, sampling

if TYPE_CHECKING:
    from mlflow import MlflowClient

from tasks.tracking.client import TrackingError, client_of, experiment_of, log_batches, log_metrics, log_params

TRACKED = "tracking.json"
MAX_TABLE_ROWS = 20_000
"""Rows of MLflow's table of a run: its page loads the table whole."""


def track(
    run: Run, done: list[Done], metrics: dict[str, float], started: float, samples: Sequence[Sample] = ()
) -> str | None:
    """Log a finished run and return its MLflow id; the same results are not logged twice, and no failure is raised."""
    logger = get_run_logger()
    digest = digest_results(done, metrics)
    if earlier := _tracked(run.output, digest):
        logger.info("in MLflow already, as run %s", earlier)
        return earlier
    waiting = read_record(run.output)
    record = make_record(run, digest, metrics, started, samples)
    write_record(run.output, record.model_copy(update={"run_id": waiting.run_id if waiting else None}))
    try:
        run_id = sync(run.output)
    except UserError as error:
        logger.warning("%s", error)
        return None
    logger.info("logged to MLflow (%s) as run %s", record.uri, run_id)
    return run_id


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
        said, status = f"{type(error).__name__}: {error}"[:500], "FAILED" if isinstance(error, Exception) else "KILLED"
        try:
            _log_failure(make_record(run, "", {}, started, samples), said, status)
        except Exception as mlflow_error:
            get_run_logger().warning("not logged to MLflow: %s", str(mlflow_error).strip().partition("\n")[0][:200])
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


def _log_failure(record: Record, said: str, status: str) -> None:
    client = client_of(record.uri)
    run_id = _create_run(client, record)
    log_params(client, run_id, record.params)
    _log_system(client, run_id, record)
    client.set_tag(run_id, "error", said)
    client.set_terminated(run_id, status, end_time=round(record.ended * 1000))


def sync(output: str) -> str | None:
    """Log what is pending and return the MLflow run's id; None if nothing is pending.

    A run that was only partly logged before is deleted, so that nothing appears twice. Raises ``TrackingError``.
    """
    record = read_record(output)
    if record is None:
        return None
    try:
        run_id = _upload(output, record)
    except UserError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise TrackingError(f"can't log to {record.uri} ({said}): later, `edit-dataset sync {output}`") from error
    tracked = {"run_id": run_id, "uri": record.uri, "digest": record.digest}
    write_bytes(join_url(output, TRACKED), json.dumps(tracked, indent=1).encode())
    remove(join_url(output, PENDING))
    return run_id


def _tracked(output: str, digest: str) -> str | None:
    path = join_url(output, TRACKED)
    known = json.loads(read_bytes(path)) if exists(path) else {}
    return str(known["run_id"]) if known.get("digest") == digest else None


def _upload(output: str, record: Record) -> str:
    client = client_of(record.uri)
    from mlflow.exceptions import MlflowException

    if record.run_id is not None:
        with suppress(MlflowException):
            client.delete_run(record.run_id)
    run_id = _create_run(client, record)
    write_record(output, record.model_copy(update={"run_id": run_id}))
    _log_numbers(client, run_id, record)
    _log_system(client, run_id, record)
    _log_dataset(client, run_id, record)
    _log_rows(client, run_id, load_run(output))
    client.set_terminated(run_id, "FINISHED", end_time=round(record.ended * 1000))
    return run_id


def _create_run(client: "MlflowClient", record: Record) -> str:
    experiment_id = experiment_of(client, record.uri, record.experiment)
    started = round(record.started * 1000)
    run = client.create_run(experiment_id, start_time=started, tags=record.tags, run_name=record.name)
    return str(run.info.run_id)


def _log_numbers(client: "MlflowClient", run_id: str, record: Record) -> None:
    log_params(client, run_id, record.params)
    log_metrics(client, run_id, record.metrics, when=round(record.ended * 1000), step=0)


def _log_system(client: "MlflowClient", run_id: str, record: Record) -> None:
    from mlflow.entities import Metric

    loads = enumerate(record.samples)
    metrics = [Metric(f"system/{n}", v, sample.when, step) for step, sample in loads for n, v in sample.values.items()]
    log_batches(client, run_id, metrics)


def _log_dataset(client: "MlflowClient", run_id: str, record: Record) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": record.dataset["source"]})
    dataset = Dataset(record.dataset["name"], record.dataset["digest"], "local", source)
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "inversion")])])


def _log_rows(client: "MlflowClient", run_id: str, run: Run) -> None:
    table = score_table(run)
    texts = {name: object for name in ("shard", *BASE_NAMES)}  # MLflow's way with pandas 3's own strings is deprecated
    client.log_table(run_id, table.iloc[:MAX_TABLE_ROWS].astype(texts), "rows.json")
    for name, grid in picture_grids(run, run.params.track.grid_rows).items():
        client.log_image(run_id, grid, key=f"faces/{name}", step=0)
        client.log_image(run_id, grid, artifact_file=f"faces-{name}.png")
