"""Trainings in MLflow: one run per training, which continues after interruptions."""

import time
from pathlib import Path

import pytest
import torch
from dvc.repo import Repo
from mlflow import MlflowClient

from gan_core.params import load_params
from gan_core.toy.params import TrainEncoderParams
from tasks.training_run import TrainingRun

PICTURES = torch.zeros(2, 3, 8, 8)


def training(folder: Path, name: str = "encoder-psp") -> TrainingRun:
    return TrainingRun(name, TrainEncoderParams(images=48), load_params().track, folder)


def test_a_resumed_training_goes_on_in_its_run_and_the_next_has_its_own(project: Path) -> None:
    folder = project / "training"
    training(folder)(16, {"l2": 0.5, "held_out/mse": 0.4}, PICTURES)
    resumed = training(folder)
    resumed(32, {"l2": 0.25}, PICTURES)
    client, run_id = MlflowClient(resumed.uri), resumed.kept.read_text()
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "l2")] == [(16, 0.5), (32, 0.25)]
    run = client.get_run(run_id)
    assert (run.data.params["images"], run.info.run_name) == ("48", "encoder-psp")
    resumed.close()
    assert client.get_run(run_id).info.status == "FINISHED"
    another = training(folder)
    another(16, {"l2": 0.5}, PICTURES)
    assert another.kept.read_text() != run_id


def test_outside_of_git_a_run_says_who_made_it_and_no_commit(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.tracking.client.git_sha", lambda: None)
    monkeypatch.setattr("tasks.tracking.client.user", lambda: "anna")
    (run := training(project / "training"))(16, {"l2": 0.5}, PICTURES)
    tags = MlflowClient(run.uri).get_run(run.kept.read_text()).data.tags
    assert tags["mlflow.user"] == "anna" and "git.sha" not in tags


def test_a_training_that_fails_says_so_and_goes_on_in_its_run(project: Path) -> None:
    folder = project / "training"
    with pytest.raises(ValueError, match="not finite"), training(folder) as failing:
        failing(16, {"l2": 0.5}, PICTURES)
        raise ValueError("the loss is not finite")
    client, run_id = MlflowClient(failing.uri), failing.kept.read_text()
    assert client.get_run(run_id).info.status == "FAILED"
    with training(folder) as resumed:
        resumed(32, {"l2": 0.25}, PICTURES)
        assert client.get_run(run_id).info.status == "RUNNING"
    assert client.get_run(run_id).info.status == "FINISHED"
    assert not failing.kept.exists()


def test_system_metrics_of_a_training_come_while_it_goes_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    run_ids = set()

    def steps() -> list[int]:
        (run_id,) = run_ids
        history = MlflowClient(run.uri).get_metric_history(run_id, "system/cpu_utilization_percentage")
        return [metric.step for metric in history]

    for _ in range(2):
        with pytest.raises(ValueError, match="spoiled"), training(project / "training") as run:
            run(16, {"l2": 0.5}, PICTURES)
            run_ids.add(run.kept.read_text())
            wanted = len(steps()) + 2
            while len(steps()) < wanted:
                time.sleep(0.1)
            raise ValueError("spoiled")
    assert steps() == list(range(len(steps())))


def test_learning_curves_are_files_that_dvc_finds(project: Path) -> None:
    pytest.importorskip("dvclive", reason="dvclive is not installed: pip install dvclive")
    folder = project / "training"
    with Repo.init(no_scm=True):
        training(folder)(16, {"l2": 0.5, "held_out/mse": 0.4}, PICTURES)
    (folder / "encoder-psp").mkdir()  # what a training resumes from
    training(folder)(32, {"l2": 0.25}, PICTURES)
    curves = Path("dvclive/encoder-psp/plots/metrics")
    assert (curves / "l2.tsv").read_text().splitlines() == ["step\tl2", "16\t0.5", "32\t0.25"]
    with Repo() as repo:
        (found,) = repo.metrics.show()[""]["data"].values()
        plotted = str(list(repo.plots.collect()))
    assert found["data"] == {"l2": 0.25, "held_out": {"mse": 0.4}, "step": 32}
    assert "dvclive/encoder-psp/plots/metrics/l2.tsv" in plotted
    (folder / "encoder-psp").rmdir()
    training(folder)(16, {"l2": 0.75}, PICTURES)
    assert (curves / "l2.tsv").read_text().splitlines() == ["step\tl2", "16\t0.75"]


def test_no_server_does_not_stop_a_training(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = training(project / "training")
    run.uri = "http://127.0.0.1:9"
    run(16, {"l2": 0.5}, PICTURES)
    run.close()
    assert "not logged to http://127.0.0.1:9" in caplog.text
    assert (project / "training" / "encoder-psp.jsonl").read_text().count("\n") == 1
