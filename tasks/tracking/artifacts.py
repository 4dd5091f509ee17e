"""Where MLflow keeps the files of runs: through its server, or in the project's folder under the same addresses.

A store in the project's folder names its files ``mlflow-artifacts:/…``, as a server does, and no folder of this
machine: a copied project reads and writes its own files, and a server that is started later serves them.
"""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gan_core.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

SERVED = "mlflow-artifacts:/"
FOLDER = "mlartifacts"
"""In the project's folder; the server of ``make up`` keeps them there too."""


def artifact_folder(uri: str) -> str | None:
    """Return a new experiment's place for files: where a server serves them, or beside an SQLite file with a full path.

    A server itself knows its place: None.
    """
    if uri.startswith("http"):
        return None
    path = _sqlite_path(uri)
    return (path.parent / FOLDER).as_uri() if path is not None and path.is_absolute() else SERVED


def local_folder(uri: str) -> Path:
    """Return the folder behind ``mlflow-artifacts:/`` of a store that is no server."""
    path = _sqlite_path(uri)
    return (path.parent if path is not None else Path()).absolute() / FOLDER


def repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> "ArtifactRepository":
    """Open the files at an address ``mlflow-artifacts:/…``; MLflow asks this function by an entry point."""
    from mlflow import get_tracking_uri
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    store, parts = tracking_uri or get_tracking_uri(), urlsplit(artifact_uri)
    if store.startswith("http") or parts.netloc:
        return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)
    names = [name for name in parts.path.split("/") if name]
    if ".." in names:
        raise UserError(f"MLflow's store names files outside of its folder: {artifact_uri}")
    return LocalArtifactRepository(local_folder(store).joinpath(*names).as_uri())


def use_local_files(uri: str) -> None:
    """Have MLflow's clients here find the files of a store in the project's folder, and begin a new store."""
    from mlflow.store.artifact import artifact_repository_registry as registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    registry._artifact_repository_registry.register("mlflow-artifacts", repository)  # also where nothing is installed
    path = _sqlite_path(uri)
    if is_unused(uri) and path is not None and not path.is_absolute():
        SqlAlchemyStore(uri, SERVED)  # else the experiment "Default" names this machine's folder


def is_unused(uri: str) -> bool:
    """Tell whether nothing has been logged to an SQLite store yet: its file isn't there."""
    path = _sqlite_path(uri)
    return path is not None and not path.exists()


def check_place(uri: str, experiment: "Experiment") -> None:
    """Raise ``UserError`` if the files of an experiment would go into the folder that this project was copied from."""
    location = str(experiment.artifact_location)
    here = local_folder(uri)
    near = not uri.startswith("http") or urlsplit(uri).hostname in ("127.0.0.1", "localhost", "::1")
    if near and location.startswith("file:") and location.endswith(f"/{FOLDER}") and location != here.as_uri():
        raise UserError(
            f"the experiment {experiment.name!r} keeps its files in another folder ({location}), as if this project "
            "was copied from there: log to a new one with track.experiment"
        )


def check_file(uri: str) -> None:
    """Raise ``UserError`` where the file of an SQLite store is a folder: MLflow would try it for minutes."""
    if (path := _sqlite_path(uri)) and path.is_dir():
        raise UserError(f"track.uri names the folder {path}: name a file in it, such as {path / 'mlflow.db'}")


def _sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite store: ``sqlite:///m.db`` is relative, ``sqlite:////m.db`` is not."""
    scheme, found, path = uri.partition(":///")
    return Path(path.partition("?")[0]) if found and scheme.partition("+")[0] == "sqlite" else None
