"""MLflow's client: its address, its errors in one line, and logging in batches that it accepts."""

import getpass
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from gan_core.errors import UserError
from gan_core.secrets import hide, hide_all, remember
from tasks.tracking.artifacts import artifact_folder, check_file, check_place, use_local_files
from tasks.tracking.names import LONGEST_VALUE, cut_names, shorten, tracked_name
from tasks.versions import git_sha

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Run

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with the password that may be in it
}
LARGEST_PORTION = 500_000
"""Bytes of JSON in one request; MLflow takes a million."""
PARAMS_FILE = "params.json"
NAMES_FILE = "names.json"
T = TypeVar("T")


class TrackingError(UserError):
    """The tracking server can't be reached or refuses; the run itself is complete."""


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn whatever MLflow raises into a ``TrackingError`` of one line."""
    try:
        yield
    except TrackingError:
        raise
    except UserError as error:
        raise TrackingError(str(error)) from error
    except Exception as error:
        raise TrackingError(f"MLflow at {hide(uri)} can't be used: {say(error)}") from error


def say(error: BaseException) -> str:
    """Return the first line of an error, without the passwords in its addresses."""
    return hide_all((str(error).strip().splitlines() or [type(error).__name__])[0])[:200]


def client_of(uri: str) -> "MlflowClient":
    """Return MLflow's client for an address, without telemetry and with short timeouts."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for noisy, level in {"alembic": logging.WARNING, "mlflow.store": logging.WARNING, "urllib3": logging.ERROR}.items():
        logging.getLogger(noisy).setLevel(level)
    remember(uri)
    check_file(uri)
    use_local_files(uri)
    return MlflowClient(uri)


def user() -> str:
    """Return who runs this process, or an empty string where the system doesn't tell."""
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return ""


def author() -> dict[str, str]:
    """Return the tags that say who makes a run, by which commit; what isn't known is left out: no server takes None."""
    known = {"git.sha": git_sha(), "mlflow.user": user()}
    return {name: value for name, value in known.items() if value}


def experiment_of(client: "MlflowClient", uri: str, name: str) -> str:
    """Return the id of an experiment, made where there is none; raises ``UserError`` as ``find_experiment`` does."""
    experiment = find_experiment(client, uri, name)
    if experiment is not None:
        return str(experiment.experiment_id)
    tags = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(name, artifact_location=artifact_folder(uri), tags=tags))


def find_experiment(client: "MlflowClient", uri: str, name: str) -> "Experiment | None":
    """Return an experiment, if there is one; raises ``UserError`` for one that was deleted, or belongs elsewhere."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return None
    if experiment.lifecycle_stage != "active":
        restore = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        raise TrackingError(
            f"the experiment {name!r} was deleted in MLflow at {hide(uri)}: restore it "
            f"(`MLFLOW_TRACKING_URI={hide(uri)} {restore}`), or log to another one with track.experiment"
        )
    check_place(uri, experiment)
    return experiment


def get_run(client: "MlflowClient", run_id: str | None) -> "Run | None":
    """Return a run, deleted ones too; None if MLflow has none of this id."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id) if run_id else None
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def pages(search: Callable[..., Sequence[T]], *arguments: Any) -> Iterator[T]:
    """Yield everything that one of the client's searches finds; each call of it gives a page."""
    token: str | None = ""
    while token is not None:
        found: Any = search(*arguments, page_token=token or None)
        yield from found
        token = found.token or None


def log_params(client: "MlflowClient", run_id: str, values: Mapping[str, str]) -> None:
    """Log parameters, as many at a time as MLflow takes.

    Of one that is longer than MLflow takes the beginning is logged, with the sha256 of the whole, which is in the
    artifact ``params.json``.
    """
    from mlflow.entities import Param

    params = [Param(tracked_name(n), shorten(v, LONGEST_VALUE, PARAMS_FILE)) for n, v in values.items()]
    for portion in _portions(params, 100):
        client.log_batch(run_id, params=portion)
    if long_params(values) or cut_names(values):
        client.log_dict(run_id, dict(values), PARAMS_FILE)


def long_params(values: Mapping[str, str]) -> list[str]:
    """Return the names of the parameters that are longer than MLflow takes."""
    return [name for name, value in values.items() if len(value) > LONGEST_VALUE]


def log_metrics(client: "MlflowClient", run_id: str, values: Mapping[str, float], when: int, step: int) -> None:
    """Log numbers of one step under MLflow's names; ``when`` is in ms since 1970.

    The artifact ``names.json`` has our names of those that MLflow can't take whole.
    """
    from mlflow.entities import Metric

    log_batches(client, run_id, [Metric(tracked_name(name), value, when, step) for name, value in values.items()])
    if cut := cut_names(values):
        client.log_dict(run_id, cut, NAMES_FILE)


def log_batches(client: "MlflowClient", run_id: str, metrics: Sequence["Metric"]) -> None:
    """Log as many at a time as MLflow takes."""
    for portion in _portions(metrics, 1000):
        client.log_batch(run_id, metrics=portion)


def _portions(entities: Iterable[T], most: int) -> Iterator[list[T]]:
    """Yield at most ``most`` at a time, and no more than fit into a request."""
    portion: list[T] = []
    size = 0
    for entity in entities:
        weight = len(json.dumps(dict(entity)))  # type: ignore[call-overload]
        if portion and (len(portion) == most or size + weight > LARGEST_PORTION):
            yield portion
            portion, size = [], 0
        portion.append(entity)
        size += weight
    if portion:
        yield portion
