"""One run in MLflow: found again, and logged with its numbers, its dataset, its rows and its pictures."""

from contextlib import suppress
from typing import TYPE_CHECKING

from gan_core.errors import UserError
from gan_core.report.report import REPORT
from gan_core.runs.run import Run, load_run
from gan_core.runs.summary import SUMMARY_FILE
from gan_core.storage.shards import BASE_NAMES
from gan_core.storage.urls import read_bytes
from tasks.pictures import FAILS, SMALL_CELL, draw_grid, sample_pictures, score_table
from tasks.record import MADE, NOTE, Record, read_tracked, write_record
from tasks.tracking.client import client_of, experiment_of, get_run, log_batches, log_metrics, log_params, pages
from tasks.tracking.inputs import log_inputs
from tasks.tracking.names import LONGEST_TAG, shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as LoggedRun

MAX_TABLE_ROWS = 20_000
"""Rows of MLflow's table of a run: its page loads the table whole."""
LONGEST_ERROR = 500
FIRST = "faces-row.png"


def find_run(client: "MlflowClient", output: str, experiment: str, digest: str, made: str) -> str | None:
    """Return a finished run in MLflow with these results: that which was logged last, or one of the same work."""
    known = read_tracked(output)
    if known.get("digest") == digest and (run := get_run(client, known.get("run_id"))) and _is_whole(run):
        return str(run.info.run_id)
    where = client.get_experiment_by_name(experiment)
    if not made or where is None or where.lifecycle_stage != "active":
        return None
    found = pages(client.search_runs, [where.experiment_id], f"tags.`{MADE}` = '{made}'")
    return next((str(run.info.run_id) for run in found if _is_whole(run)), None)


def _is_whole(run: "LoggedRun") -> bool:
    return bool(run.info.lifecycle_stage == "active" and run.info.status == "FINISHED")


def upload(client: "MlflowClient", uri: str, output: str, record: Record) -> str:
    """Log a run as a new one and return its id, which waits in ``pending.json`` meanwhile."""
    _delete_half(client, record)
    run_id = _create_run(client, uri, record)
    try:
        write_record(output, record.model_copy(update={"run_id": run_id}))
    except UserError:
        client.delete_run(run_id)  # nobody would know of it
        raise
    _log_numbers(client, run_id, record)
    _log_system(client, run_id, record)
    run = load_run(output)
    log_inputs(client, run_id, record, run)
    _log_rows(client, run_id, run)
    _log_pictures(client, run_id, run, record.tags.get(NOTE, ""))
    _log_files(client, run_id, run)
    client.set_terminated(run_id, "FINISHED", end_time=round(record.ended * 1000))
    return run_id


def _delete_half(client: "MlflowClient", record: Record) -> None:
    """Delete what an attempt that failed has left of this run, and nothing else that has its number.

    The attempt may have been a run of another minute, which its name says, over the same shards.
    """
    half = get_run(client, record.run_id)
    if half is None or half.info.status != "RUNNING":
        return
    if half.info.run_name == record.name or (record.made and half.data.tags.get(MADE) == record.made):
        client.delete_run(half.info.run_id)


def _create_run(client: "MlflowClient", uri: str, record: Record) -> str:
    experiment_id = experiment_of(client, uri, record.experiment)
    started, tags = round(record.started * 1000), {n: shorten(tag, LONGEST_TAG) for n, tag in record.tags.items()}
    run = client.create_run(experiment_id, start_time=started, tags=tags, run_name=record.name)
    return str(run.info.run_id)


def _log_numbers(client: "MlflowClient", run_id: str, record: Record) -> None:
    log_params(client, run_id, record.params)
    log_metrics(client, run_id, record.metrics, when=round(record.ended * 1000), step=0)


def _log_system(client: "MlflowClient", run_id: str, record: Record) -> None:
    from mlflow.entities import Metric

    loads = enumerate(record.samples)
    metrics = [Metric(f"system/{n}", v, sample.when, step) for step, sample in loads for n, v in sample.values.items()]
    log_batches(client, run_id, metrics)


def _log_rows(client: "MlflowClient", run_id: str, run: Run) -> None:
    table = score_table(run)
    texts = {
        name: object for name in ("shard", *BASE_NAMES, FAILS) if name in table
    }  # MLflow's way with pandas 3's own strings is deprecated
    client.log_table(run_id, table.iloc[:MAX_TABLE_ROWS].astype(texts), "rows.json")


def _log_pictures(client: "MlflowClient", run_id: str, run: Run, note: str) -> None:
    """Log the pictures of some rows as artifacts, and show them in the run's description after and before ``note``.

    MLflow's charts of pictures begin with the text of all parameters: the pictures are not seen there.
    """
    found = sample_pictures(run, run.params.track.grid_rows)
    grids = {f"faces-{name}.png": draw_grid(lines) for name, lines in found.items()}
    first = next((line for lines in found.values() for line in lines if line), None)
    row = {FIRST: draw_grid([first], SMALL_CELL)} if first else {}
    for name, picture in (row | grids).items():
        client.log_image(run_id, picture, artifact_file=name)
    shown = {name: f"![{name}](get-artifact?path={name}&run_uuid={run_id})" for name in row | grids}
    client.set_tag(run_id, NOTE, "\n\n".join([*(shown.pop(name) for name in row), note, *shown.values()]))


def _log_files(client: "MlflowClient", run_id: str, run: Run) -> None:
    """Log the report and the summary, so that others than those who reach the run's folder can read them."""
    for name in (REPORT, SUMMARY_FILE):
        with suppress(FileNotFoundError):
            client.log_text(run_id, read_bytes(run.path(name)).decode(), name)


def upload_failure(uri: str, record: Record, said: str, status: str) -> None:
    """Log a run that ended as ``FAILED`` or ``KILLED``, with its parameters and the error."""
    client = client_of(uri)
    run_id = _create_run(client, uri, record)
    log_params(client, run_id, record.params)
    _log_system(client, run_id, record)
    client.set_tag(run_id, "error", shorten(said, LONGEST_ERROR))
    client.set_terminated(run_id, status, end_time=round(record.ended * 1000))
