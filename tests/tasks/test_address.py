"""Where runs are logged, and that the address keeps its password."""

from types import SimpleNamespace

import pytest

from gan_core.params import TrackParams
from tasks.tracking.address import tracking_uri
from tasks.tracking.artifacts import artifact_folder
from tasks.tracking.client import client_of


def test_where_to_log_is_the_parameter_the_address_or_the_servers_own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI"):
        monkeypatch.delenv(name, raising=False)
    assert tracking_uri(TrackParams()) == "sqlite:///mlflow.db"
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://db/mlflow")
    assert tracking_uri(TrackParams()) == "postgresql://db/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert tracking_uri(TrackParams()) == "http://elsewhere"
    assert tracking_uri(TrackParams(uri="http://named")) == "http://named"
    assert artifact_folder("postgresql://db/mlflow") == artifact_folder("sqlite:///m.db") == "mlflow-artifacts:/"
    assert artifact_folder("sqlite:////a b/m.db?timeout=3") == "file:///a%20b/mlartifacts"
    assert artifact_folder("http://elsewhere") is None


def test_mlflow_does_not_print_the_address_with_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)
    ended = client_of("http://me:s3cret@127.0.0.1:9")._tracking_client
    kept = SimpleNamespace(data=SimpleNamespace(tags={}), info=SimpleNamespace(experiment_id="1", run_name="a"))
    for name in ("get_run", "update_run_info"):
        monkeypatch.setattr(ended.store, name, lambda *_, **__: kept)
    ended.set_terminated("a")
    assert capsys.readouterr().out == ""
