"""MLflow: what a run was made with and what came out of it. The only file that imports MLflow.

Tracking never kills work: what is to be logged is first written to ``OUTPUT/pending.json``, and stays there for
``edit-dataset sync`` when the tracking server can't be reached.
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prefect import get_run_logger

from gan_core.checkpoints.files import file_sha256, read_card
from gan_core.errors import CheckpointError, ParamsError, UserError
from gan_core.nightly.history import Entry
from gan_core.report.comparison import RULE, Comparison, draw_comparison
from gan_core.runs.run import PENDING, Run, load_run
from gan_core.storage.atomic import remove, write_bytes
from gan_core.storage.shards import BASE_NAMES
from gan_core.storage.urls import base_name, exists, join_url, read_bytes
from tasks.pictures import picture_grids, score_table
from tasks.record import Record, digest_results, make_record, read_record, write_record
from tasks.shards import Done
from tasks.system_metrics import Monitor, Sample, is_wanted, sampling
from tasks.versions import git_sha

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

TRACKED = "tracking.json"
CHAMPION = "champion"
ENCODER = {"kind": "encoder"}
MAX_TABLE_ROWS = 20_000
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class TrackingError(UserError):
    """The tracking server can't be reached or refuses; the run itself is whole."""


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

    Gives the system metrics, which grow while the block goes on, if they are wanted.
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

    A run that was logged by half before is deleted, so that nothing appears twice. Raises ``TrackingError``.
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


class Registered(NamedTuple):
    """The newest version of an encoder in MLflow's registry; ``encoder`` is the architecture of what is at ``path``."""

    name: str
    version: str
    encoder: str
    path: str
    sha256: str


def register_encoder(name: str | None, path: str, uri: str, aliases: Sequence[str] = ()) -> Registered:
    """Make the checkpoint at ``path`` the newest version of ``name`` (that of its architecture if none).

    Its card becomes the description and the tags. Raises ``CheckpointError`` for a file that is no encoder's, and
    ``TrackingError``.
    """
    card, sha256 = read_card(path), file_sha256(path)
    if card.kind != "encoder":
        raise CheckpointError(f"{path} is a {card.kind}, not an encoder: name the file of an encoder")
    name = name or card.name
    known = {encoder.name: encoder for encoder in registered_encoders(uri)}.get(name)
    with _told(uri):
        client = client_of(uri)
        if known is None:
            client.create_registered_model(name, tags=ENCODER)
        if known is None or known.sha256 != sha256:
            tags = {
                "encoder": card.name,
                "path": path,
                "sha256": sha256,
                "generator_sha256": card.generator_sha256 or "",
            }
            source = path if "://" in path else f"dvc:///{path}"
            made = client.create_model_version(name, source, tags=tags, description=card.model_dump_json(indent=1))
            known = Registered(name, str(made.version), card.name, path, sha256)
        for alias in aliases:
            client.set_registered_model_alias(name, alias, known.version)
    return known


def registered_encoders(uri: str) -> list[Registered]:
    """Return the newest version of every registered encoder, by name; raises ``TrackingError``."""
    found = []
    with _told(uri):
        client = client_of(uri)
        for model in client.search_registered_models("tags.kind = 'encoder'"):
            version = max(
                client.search_model_versions(f"name='{model.name}'"), key=lambda v: int(v.version), default=None
            )
            if version is not None:
                tags = version.tags
                found.append(
                    Registered(model.name, str(version.version), tags["encoder"], tags["path"], tags["sha256"])
                )
    return sorted(found)


def crown(encoder: Registered, uri: str) -> None:
    """Give one version the alias ``champion``, and take it from every other encoder; raises ``TrackingError``."""
    with _told(uri):
        client = client_of(uri)
        for model in client.search_registered_models("tags.kind = 'encoder'"):
            if model.name != encoder.name and CHAMPION in model.aliases:
                client.delete_registered_model_alias(model.name, CHAMPION)
        client.set_registered_model_alias(encoder.name, CHAMPION, encoder.version)


def champion(uri: str) -> Registered:
    """Return the encoder with the alias ``champion``; raises ``ParamsError`` if there is none, ``TrackingError``."""
    with _told(uri):
        client = client_of(uri)
        for model in client.search_registered_models("tags.kind = 'encoder'"):
            if CHAMPION in model.aliases:
                version = client.get_model_version_by_alias(model.name, CHAMPION)
                tags = version.tags
                return Registered(model.name, str(version.version), tags["encoder"], tags["path"], tags["sha256"])
    raise ParamsError("encode.encoder: no champion yet; run `edit-dataset compare-encoders`, or name an encoder")


def track_comparison(experiment: str, uri: str, name: str, comparison: Comparison, children: Mapping[str, str]) -> str:
    """Log a comparison as the parent of the runs in the folders ``children``; return its run's id.

    It holds the table (``comparison.json``), the chart, each encoder's numbers as ``<column>/<encoder>``, and the rule.
    Raises ``TrackingError``.
    """
    with _told(uri):
        client = client_of(uri)
        tags = {"champion": comparison.champion, "rule": RULE, "git.sha": git_sha()}
        run_id = client.create_run(experiment_of(client, uri, experiment), run_name=name, tags=tags).info.run_id
        values = {f"{c}/{n}".replace(" ", "_"): v for n, row in comparison.encoders.items() for c, v in row.items()}
        log_metrics(client, run_id, values, when=round(time.time() * 1000), step=0)
        rows = comparison.rows()
        client.log_table(run_id, {column: [row[column] for row in rows] for column in rows[0]}, "comparison.json")
        client.log_figure(run_id, draw_comparison(comparison), "comparison.png")
        for folder in children.values():
            if exists(path := join_url(folder, TRACKED)):
                client.set_tag(json.loads(read_bytes(path))["run_id"], "mlflow.parentRunId", run_id)
        client.set_terminated(run_id, "FINISHED")
    return str(run_id)


def track_nights(experiment: str, uri: str, nights: Sequence[Entry]) -> None:
    """Log nights to MLflow, one run for each encoder on each dataset, with the date (20261121) as the step.

    A night with findings tags its run: ``finding`` says what moved, or ``none``. Raises ``TrackingError``.
    """
    with _told(uri):
        client = client_of(uri)
        experiment_id = experiment_of(client, uri, experiment)
        for night in nights:
            name = f"{night.encoder} · {base_name(night.dataset)}"
            run_id = _standing_run(client, experiment_id, name)
            values = {name: measured.value for name, measured in night.measured.items()}
            when = round(datetime.fromisoformat(f"{night.date}T12:00+00:00").timestamp() * 1000)
            log_metrics(client, run_id, values, when, step=int(night.date.replace("-", "")))
            said = "; ".join(str(finding) for finding in night.findings) or "none"
            for key, value in {"finding": said, "night": night.date, "encoder.version": night.version}.items():
                client.set_tag(run_id, key, value[:5000])
            client.set_terminated(run_id, "FINISHED", end_time=round(time.time() * 1000))


def _standing_run(client: "MlflowClient", experiment_id: str, name: str) -> str:
    found = client.search_runs([experiment_id], f"attributes.run_name = '{name}'", max_results=1)
    return str((found[0] if found else client.create_run(experiment_id, run_name=name)).info.run_id)


@contextmanager
def _told(uri: str) -> Iterator[None]:
    """Turn whatever MLflow raises into a ``TrackingError`` of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise TrackingError(f"MLflow at {uri} can't be used: {said}") from error


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


def client_of(uri: str) -> "MlflowClient":
    """Return MLflow's client for an address, told not to call home and to give up soon."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for noisy in ("alembic", "mlflow.store"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return MlflowClient(uri)


def experiment_of(client: "MlflowClient", uri: str, name: str) -> str:
    """Return the id of an experiment, made where there is none."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    tags = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(name, artifact_location=_artifact_folder(uri), tags=tags))


def _create_run(client: "MlflowClient", record: Record) -> str:
    experiment_id = experiment_of(client, record.uri, record.experiment)
    started = round(record.started * 1000)
    run = client.create_run(experiment_id, start_time=started, tags=record.tags, run_name=record.name)
    return str(run.info.run_id)


def _log_numbers(client: "MlflowClient", run_id: str, record: Record) -> None:
    log_params(client, run_id, record.params)
    log_metrics(client, run_id, record.metrics, when=round(record.ended * 1000), step=0)


def log_params(client: "MlflowClient", run_id: str, values: dict[str, str]) -> None:
    """Log parameters, as many at a time as MLflow takes."""
    from mlflow.entities import Param

    params = [Param(name, value) for name, value in values.items()]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])


def log_metrics(client: "MlflowClient", run_id: str, values: dict[str, float], when: int, step: int) -> None:
    """Log numbers of one step; ``when`` is in ms since 1970."""
    from mlflow.entities import Metric

    _log_all(client, run_id, [Metric(name, value, when, step) for name, value in values.items()])


def _log_system(client: "MlflowClient", run_id: str, record: Record) -> None:
    from mlflow.entities import Metric

    loads = enumerate(record.samples)
    metrics = [Metric(f"system/{n}", v, sample.when, step) for step, sample in loads for n, v in sample.values.items()]
    _log_all(client, run_id, metrics)


def _log_all(client: "MlflowClient", run_id: str, metrics: Sequence["Metric"]) -> None:
    """Log as many at a time as MLflow takes."""
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


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


def _artifact_folder(uri: str) -> str | None:
    """Beside an SQLite file, for another database in this folder; a server knows its own place."""
    if uri.startswith("http"):
        return None
    folder = Path(uri.removeprefix("sqlite:///")).absolute().parent if uri.startswith("sqlite:///") else Path.cwd()
    return (folder / "mlartifacts").as_uri()
