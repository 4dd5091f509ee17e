"""MLflow's client: its address, its errors in one line, and logging in batches that it accepts."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gan_core.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class TrackingError(UserError):
    """The tracking server can't be reached or refuses; the run itself is complete."""


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn whatever MLflow raises into a ``TrackingError`` of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise TrackingError(f"MLflow at {uri} can't be used: {said}") from error


def client_of(uri: str) -> "MlflowClient":
    """Return MLflow's client for an address, without telemetry and with short timeouts."""
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
    return str(client.create_experiment(name, artifact_location=artifact_folder(uri), tags=tags))


def log_params(client: "MlflowClient", run_id: str, values: dict[str, str]) -> None:
    """Log parameters in batches of the size that MLflow accepts."""
    from mlflow.entities import Param

    params = [Param(name, value) for name, value in values.items()]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])


def log_metrics(client: "MlflowClient", run_id: str, values: dict[str, float], when: int, step: int) -> None:
    """Log numbers of one step; ``when`` is in ms since 1970."""
    from mlflow.entities import Metric

    log_batches(client, run_id, [Metric(name, value, when, step) for name, value in values.items()])


def log_batches(client: "MlflowClient", run_id: str, metrics: Sequence["Metric"]) -> None:
    """Log in batches of the size that MLflow accepts."""
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])


def artifact_folder(uri: str) -> str | None:
    """The artifact folder: beside an SQLite file, for another database in this folder; a server has its own."""
    if uri.startswith("http"):
        return None
    folder = Path(uri.removeprefix("sqlite:///")).absolute().parent if uri.startswith("sqlite:///") else Path.cwd()
    return (folder / "mlartifacts").as_uri()
