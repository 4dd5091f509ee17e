"""Encoders in MLflow's registry: versions, aliases, and files that don't belong there."""

import pytest
from mlflow import MlflowClient

from gan_core.errors import CheckpointError
from gan_core.nightly.history import Entry, Finding, Measured
from tasks.tracking.client import TrackingError
from tasks.tracking.nightly import track_nights
from tasks.tracking.registry import register_encoder, registered_encoders


def test_the_same_bytes_are_one_version_and_the_newest_one_counts(
    mlflow_store: str, tiny_models: dict[str, str]
) -> None:
    first = register_encoder("versions", tiny_models["encoder"], mlflow_store, ["champion"])
    assert register_encoder("versions", tiny_models["encoder"], mlflow_store) == first
    assert (first.version, first.encoder, first.path) == ("1", "psp", tiny_models["encoder"])
    assert first in registered_encoders(mlflow_store)
    client = MlflowClient(mlflow_store)
    champion = client.get_model_version_by_alias("versions", "champion")
    assert champion.tags["sha256"] == first.sha256 and '"licence": "Apache-2.0"' in champion.description
    client.create_model_version("versions", "dvc:///e", tags={"encoder": "e4e", "path": "e", "sha256": "bb"})
    (newest,) = [encoder for encoder in registered_encoders(mlflow_store) if encoder.name == "versions"]
    assert newest[1:] == ("2", "e4e", "e", "bb")


def test_only_encoders_are_registered(mlflow_store: str, tiny_models: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match="is a generator, not an encoder"):
        register_encoder("wrong", tiny_models["generator"], mlflow_store)


def test_nights_are_one_run_with_dates_as_steps(mlflow_store: str) -> None:
    def night(date: str, value: float, found: list[Finding]) -> Entry:
        measured = {"swd/mean/encoded": Measured(value=value, noise=0.1)}
        return Entry(date=date, encoder="psp", dataset="data/sample", measured=measured, findings=found)

    moved = Finding(encoder="psp", dataset="data/sample", metric="swd/mean/encoded", value=9, usual=5, band=1)
    track_nights("nights", mlflow_store, [night("2026-11-19", 5, [])])
    track_nights("nights", mlflow_store, [night("2026-11-20", 9, [moved])])
    client = MlflowClient(mlflow_store)
    (run,) = client.search_runs([client.get_experiment_by_name("nights").experiment_id])
    assert run.info.run_name == "psp · sample" and run.data.tags["finding"] == str(moved)
    points = client.get_metric_history(run.info.run_id, "swd/mean/encoded")
    assert [(point.step, point.value) for point in points] == [(20261119, 5.0), (20261120, 9.0)]


def test_a_registry_that_is_down_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9 can't be used") as e:
        registered_encoders("http://127.0.0.1:9")
    assert "\n" not in str(e.value)
