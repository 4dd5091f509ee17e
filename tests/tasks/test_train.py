"""The one command that trains: by the name of a stage, logged to MLflow, with its scores in ``data/metrics``."""

import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mlflow import MlflowClient

from gan_core.params import Params, load_params
from gan_core.toy.digits import write_digits
from gan_core.toy.params import ToyParams
from gan_core.training.log import SCORES
from tasks import train
from tasks.training_run import TrainingRun

DIGITS = "train_digits: {channels: [8, 8, 8], z_dim: 4, steps: 2, batch_size: 4}\n"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["tasks.train", *arguments])
    before = signal.getsignal(signal.SIGTERM)
    try:
        train.main()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_stage_is_trained_scored_and_logged(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "toy.yaml").write_text(DIGITS)
    write_digits()
    run(monkeypatch, "train-digits")
    scores = json.loads((SCORES / "digits.json").read_text())
    assert set(scores) == {"confidence", "classes", "shape_gap"}
    assert {path.name for path in Path("data/training").iterdir()} == {"digits.jsonl", "digits.png"}
    track = load_params().track
    client = MlflowClient(track.uri)
    experiment = client.get_experiment_by_name(f"{track.experiment}-training")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert (logged.info.run_name, logged.info.status) == ("digits", "FINISHED")
    assert logged.data.params["steps"] == "2" and {"discriminator", "generator"} <= set(logged.data.metrics)


def test_a_training_that_is_asked_to_end_is_killed_in_mlflow(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(toy: ToyParams, params: Params, report: TrainingRun) -> None:
        report(1, {"loss": 1.0}, torch.zeros(1, 3, 8, 8))
        signal.raise_signal(signal.SIGTERM)

    endless = SimpleNamespace(name="endless", section=lambda toy: toy.train_digits, run=begin)
    monkeypatch.setattr(train, "find_training", lambda stage: endless)
    (project / "toy.yaml").write_text(DIGITS)
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, "endless")
    track = load_params().track
    client = MlflowClient(track.uri)
    experiment = client.get_experiment_by_name(f"{track.experiment}-training")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert end.value.code == 143 and logged.info.status == "KILLED"


@pytest.mark.parametrize(
    ("toy", "stage", "message"),
    [
        (DIGITS, "train-digts", "no training 'train-digts'; did you mean 'train-digits'"),
        ("train_digits: {stps: 2}\n", "train-digits", "toy.yaml: unknown key train_digits.stps; did you mean 'steps'"),
        ("train_encoder: {psp: {}}\n", "train-encoder@e4e", "train_encoder has no section 'e4e'"),
        (DIGITS, "train-digits", "no digits at data/digits.npz: write them with `python -m gan_core.toy.digits`"),
    ],
)
def test_a_mistake_is_one_line(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    toy: str,
    stage: str,
    message: str,
) -> None:
    (project / "toy.yaml").write_text(toy)
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, stage)
    assert end.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
