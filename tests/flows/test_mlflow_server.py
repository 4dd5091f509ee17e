"""The project's MLflow server: while it runs, everything is logged through it, into the same store as without it."""

from pathlib import Path

import pytest

from flows import servers
from gan_core.params import TrackParams
from tasks.tracking.address import tracking_uri
from tasks.tracking.client import client_of, experiment_of


def log_file() -> tuple[str, str]:
    """Log a file where an empty ``track.uri`` leads now; return the run's id and the address."""
    uri = tracking_uri(TrackParams())
    client = client_of(uri)
    run_id = client.create_run(experiment_of(client, uri, "e")).info.run_id
    client.log_text(run_id, "text", "a.txt")
    return str(run_id), uri


@pytest.mark.slow
def test_the_server_and_the_store_behind_it_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(servers, "FOLDER", tmp_path / ".servers")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI"):
        monkeypatch.delenv(name, raising=False)
    running = servers.start("mlflow")
    try:
        for name, value in servers.quiet_environment().items():
            monkeypatch.setenv(name, value)
        served, uri = log_file()
        assert uri == running.url
        assert client_of(uri).get_run(served).info.artifact_uri.startswith("mlflow-artifacts:/")
    finally:
        servers.stop("mlflow")
    for name, value in servers.quiet_environment().items():
        monkeypatch.setenv(name, value)
    direct, uri = log_file()
    assert uri == "sqlite:///mlflow.db"
    client = client_of(uri)
    assert Path(client.download_artifacts(served, "a.txt")).read_text() == "text"
    assert len(list(Path("mlartifacts").rglob("a.txt"))) == 2 and direct != served
    assert str(tmp_path).encode() not in Path("mlflow.db").read_bytes()
