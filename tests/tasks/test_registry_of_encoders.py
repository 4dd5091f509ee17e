"""Encoders in MLflow's registry: versions, aliases, and files that don't belong there."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from gan_core.errors import CheckpointError, ParamsError
from gan_core.nightly.history import Entry, Finding, Measured
from tasks.tracking import registry
from tasks.tracking.client import TrackingError
from tasks.tracking.names import tracked_name
from tasks.tracking.nightly import track_nights
from tasks.tracking.registry import champion, register_checkpoint, registered_encoders, set_champion


def test_the_same_bytes_are_one_version_and_the_newest_one_counts(
    mlflow_store: str, tiny_models: dict[str, str]
) -> None:
    first = register_checkpoint("versions", tiny_models["encoder"], mlflow_store, ["champion"])
    assert register_checkpoint("versions", tiny_models["encoder"], mlflow_store) == first
    assert (first.version, first.encoder, first.path) == ("1", "psp", tiny_models["encoder"])
    assert first in registered_encoders(mlflow_store)
    client = MlflowClient(mlflow_store)
    champion = client.get_model_version_by_alias("versions", "champion")
    assert champion.tags["sha256"] == first.sha256 and "licence: Apache-2.0" in champion.description
    client.create_model_version("versions", "dvc:///e", tags={"encoder": "e4e", "path": "e", "sha256": "bb"})
    (newest,) = [encoder for encoder in registered_encoders(mlflow_store) if encoder.name == "versions"]
    assert newest[1:] == ("2", "e4e", "e", "bb")


def test_versions_that_others_made_are_passed_over(mlflow_store: str, tiny_models: dict[str, str]) -> None:
    ours = register_checkpoint("shared", tiny_models["encoder"], mlflow_store)
    client = MlflowClient(mlflow_store)
    theirs = client.create_model_version("shared", "dvc:///e")
    assert register_checkpoint("shared", tiny_models["encoder"], mlflow_store) == ours
    assert ours in registered_encoders(mlflow_store)
    set_champion(ours._replace(version=str(theirs.version)), mlflow_store)
    with pytest.raises(ParamsError, match=r"version 2 of 'shared', the champion in MLflow, has no tag 'encoder'.*give"):
        champion(mlflow_store)
    set_champion(ours, mlflow_store)


def test_a_name_is_free_again_after_a_registration_that_was_cut_off(
    mlflow_store: str, tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as cut_off:
        cut_off.setattr(registry, "_log_version", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            register_checkpoint("halfway", tiny_models["encoder"], mlflow_store)
    assert register_checkpoint("halfway", tiny_models["encoder"], mlflow_store).version == "1"
    for name, kind, said in (("taken", {"kind": "generator"}, "of kind generator"), ("foreign", {}, "that no command")):
        MlflowClient(mlflow_store).create_registered_model(name, tags=kind)
        with pytest.raises(TrackingError, match=f"MLflow has a model '{name}' {said}"):
            register_checkpoint(name, tiny_models["encoder"], mlflow_store)


def test_only_what_makes_a_model_is_registered(mlflow_store: str, tiny_models: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match="holds network, which no model is made of"):
        register_checkpoint("wrong", tiny_models["identity"], mlflow_store)


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
    time.sleep(0.002)  # MLflow has milliseconds
    track_nights("nights", mlflow_store, [night("2026-11-20", 6, [])])
    assert client.get_run(run.info.run_id).data.metrics["swd/mean/encoded"] == 6.0


@pytest.mark.parametrize("name", ["anna's", "both \" and '", "a/b:c", "100% %2F", "..", "x\\"])
def test_an_encoder_may_have_any_name(mlflow_store: str, tiny_models: dict[str, str], name: str) -> None:
    made = register_checkpoint(name, tiny_models["encoder"], mlflow_store)
    set_champion(made, mlflow_store)
    assert made.name == name and champion(mlflow_store) == made and made in registered_encoders(mlflow_store)
    assert register_checkpoint(name, tiny_models["encoder"], mlflow_store) == made


def test_there_is_one_champion_also_by_hand(mlflow_store: str, tiny_models: dict[str, str]) -> None:
    set_champion(register_checkpoint("first", tiny_models["encoder"], mlflow_store), mlflow_store)
    second = register_checkpoint("second", tiny_models["encoder"], mlflow_store, ["champion"])
    register_checkpoint("generator", tiny_models["generator"], mlflow_store, ["champion"])
    assert champion(mlflow_store) == second
    assert "champion" not in MlflowClient(mlflow_store).get_registered_model("first").aliases


def test_an_alias_that_mlflow_does_not_take_is_refused_before_anything_is_made(
    mlflow_store: str, tiny_models: dict[str, str]
) -> None:
    for alias in ("prod (eu)", "latest", "V1", ""):
        with pytest.raises(ParamsError, match="write letters, digits"):
            register_checkpoint("aliases", tiny_models["encoder"], mlflow_store, ["fine", alias])
    assert "aliases" not in {encoder.name for encoder in registered_encoders(mlflow_store)}


def test_a_file_of_the_project_is_recorded_by_its_place_in_it(
    mlflow_store: str, tiny_models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_models["encoder"], "mine.safetensors")
    assert register_checkpoint("mine", str(tmp_path / "mine.safetensors"), mlflow_store).path == "mine.safetensors"


NIGHTS = [("psp", "data/anna's faces"), ("psp", 'data/the "best"'), ("it's (1)", "a/faces"), ("it's (1)", "b/faces")]


def night(date: str, encoder: str, dataset: str, **more: Any) -> Entry:
    measured = {"swd/a (b)": Measured(value=5, noise=0.1)}
    return Entry(date=date, encoder=encoder, dataset=dataset, measured=measured, **more)


def steps(client: MlflowClient, run_id: str) -> list[int]:
    return [point.step for point in client.get_metric_history(run_id, tracked_name("swd/a (b)"))]


def test_nights_of_any_name_have_a_run_each_and_go_on_in_it(mlflow_store: str) -> None:
    for date in ("2026-11-19", "2026-11-20"):
        track_nights("odd names", mlflow_store, [night(date, *place) for place in NIGHTS])
    client = MlflowClient(mlflow_store)
    found = client.search_runs([client.get_experiment_by_name("odd names").experiment_id])
    assert sorted((run.data.tags["encoder.name"], run.data.tags["dataset.source"]) for run in found) == sorted(NIGHTS)
    assert len({run.info.run_name for run in found}) == 4
    assert all(steps(client, run.info.run_id) == [20261119, 20261120] for run in found)


def test_nights_whose_run_was_deleted_are_logged_again_and_those_of_the_last_release_go_on(mlflow_store: str) -> None:
    client = MlflowClient(mlflow_store)
    number = client.create_experiment("nights again")
    old = client.create_run(number, run_name="psp · faces").info.run_id
    kept, gone = night("2026-11-19", "psp", "data/faces", tracked=True), night("2026-11-19", "e4e", "x", tracked=True)
    tonight = [night("2026-11-20", "psp", "data/faces"), night("2026-11-20", "e4e", "x")]
    track_nights("nights again", mlflow_store, [kept, gone, *tonight])
    (made,) = {run.info.run_id for run in client.search_runs([number])} - {old}
    assert steps(client, old) == [20261120] and steps(client, made) == [20261119, 20261120]


def test_findings_that_are_too_long_for_a_tag_are_a_file(mlflow_store: str) -> None:
    findings = [Finding(encoder="psp", dataset="d" * 300, metric="swd", value=9, usual=5, band=1) for _ in range(30)]
    track_nights("long nights", mlflow_store, [night("2026-11-20", "psp", "long", findings=findings)])
    client = MlflowClient(mlflow_store)
    (run,) = client.search_runs([client.get_experiment_by_name("long nights").experiment_id])
    assert run.data.tags["finding"].endswith("whole in findings-2026-11-20.txt)")
    whole = Path(client.download_artifacts(run.info.run_id, "findings-2026-11-20.txt")).read_text()
    assert whole == "; ".join(map(str, findings))


def test_a_registry_that_is_down_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9 can't be used") as e:
        registered_encoders("http://127.0.0.1:9")
    assert "\n" not in str(e.value)
