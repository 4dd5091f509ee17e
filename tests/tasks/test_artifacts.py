"""The files of runs: under addresses that hold on every machine, and never in the folder of another project."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from gan_core.errors import UserError
from tasks.tracking.address import usable
from tasks.tracking.artifacts import repository
from tasks.tracking.client import TrackingError, client_of, experiment_of, mlflow_errors

STORE = "sqlite:///mlflow.db"


def log_file(experiment: str = "e") -> str:
    """Log a file as a run of the store in this folder, and return the run's id."""
    client = client_of(STORE)
    run_id = client.create_run(experiment_of(client, STORE, experiment)).info.run_id
    client.log_text(run_id, "text", "a.txt")
    return str(run_id)


def test_a_folder_in_the_place_of_a_store_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"track\.uri names the folder .*: name a file in it, such as .*mlflow\.db"):
        client_of(f"sqlite:///{tmp_path}")


def test_a_store_in_the_project_names_no_folder_and_a_copy_of_it_writes_into_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first"
    first.mkdir()
    monkeypatch.chdir(first)
    run_id = log_file()
    assert client_of(STORE).get_run(run_id).info.artifact_uri == f"mlflow-artifacts:/{run_id}/artifacts"
    assert [path.name for path in (first / "mlartifacts" / run_id / "artifacts").iterdir()] == ["a.txt"]
    assert str(tmp_path).encode() not in Path("mlflow.db").read_bytes()
    shutil.copytree(first, tmp_path / "second")
    monkeypatch.chdir(tmp_path / "second")
    assert Path(client_of(STORE).download_artifacts(run_id, "a.txt")).read_text() == "text"
    copied = log_file()
    assert (tmp_path / "second/mlartifacts" / copied).is_dir() and not (first / "mlartifacts" / copied).exists()


def test_an_experiment_that_keeps_its_files_where_this_was_copied_from_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = client_of(STORE)
    client.create_experiment("moved", artifact_location="file:///nowhere/project/mlartifacts")
    client.create_experiment("shared", artifact_location="file:///nowhere/shared")
    client.create_experiment("here", artifact_location=(tmp_path / "mlartifacts").as_uri())
    with (
        pytest.raises(TrackingError, match="'moved' keeps its files in another folder") as refused,
        mlflow_errors(STORE),
    ):
        experiment_of(client, STORE, "moved")
    assert "\n" not in str(refused.value)
    assert experiment_of(client, STORE, "shared") and experiment_of(client, STORE, "here")


def test_a_store_cannot_lead_out_of_its_folder() -> None:
    with pytest.raises(UserError, match="outside of its folder"):
        repository("mlflow-artifacts:/../secret", STORE)


def test_the_projects_server_is_used_for_the_projects_store_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://me:word@db/mlflow")
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("EDIT_DATASET_MLFLOW", f"{os.getpid()} {here}")
        own = [STORE, "postgresql://me:word@db/mlflow", "postgresql://me:***@db/mlflow"]
        assert {usable(address) for address in own} == {here}
        assert usable("sqlite:///elsewhere.db") == "sqlite:///elsewhere.db"
        monkeypatch.setenv("EDIT_DATASET_MLFLOW", f"{2**22 + 1} {here}")  # it has ended, and a stranger has its port
        assert [usable(address) for address in own[:2]] == own[:2]
    monkeypatch.setenv("EDIT_DATASET_MLFLOW", f"{os.getpid()} {here}")
    assert [usable(address) for address in own[:2]] == own[:2]


def test_a_password_that_was_not_written_down_is_found_or_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_TRACKING_PASSWORD", "EDIT_DATASET_MLFLOW"):
        monkeypatch.delenv(name, raising=False)
    hidden, whole = "http://***@host/x", "http://me:word@host/x"
    with pytest.raises(TrackingError, match="set MLFLOW_TRACKING_URI"):
        usable(hidden)
    Path("params.yaml").write_text(f"track: {{uri: '{whole}'}}")
    assert usable(hidden) == whole
    Path("params.yaml").unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "word")
    assert usable(hidden) == "http://host/x"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", whole)
    assert usable(hidden) == whole
