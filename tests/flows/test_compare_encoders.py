"""Encoders side by side for real: runs under one parent, a champion, and a run that asks for it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient
from prefect.exceptions import CancelledRun
from prefect.logging import disable_run_logger
from typer.testing import CliRunner

from flows import cli, compare_encoders
from gan_core.checkpoints.files import Card, file_sha256, save_checkpoint
from gan_core.encoders.base import ENCODERS
from gan_core.errors import DataError, UserError
from gan_core.loading import load_generator, model_tensors
from gan_core.params import load_params
from gan_core.runs.run import load_run
from tasks.tracking.client import TrackingError
from tasks.tracking.registry import champion, register_checkpoint
from tests.conftest import write_dataset

pytestmark = pytest.mark.usefixtures("on_server")
NETWORK = {"input_size": 64, "units": [1, 1, 1, 1], "width": 8}


def write_encoder(path: Path, variant: str, generator: str) -> None:
    torch.manual_seed(1)
    encoder = ENCODERS.get(variant).for_generator(load_generator(generator).model, **NETWORK)
    card = Card(
        kind="encoder",
        name=variant,
        arguments=encoder.arguments,
        generator_sha256=file_sha256(generator),
        made_by="tests",
        licence="none",
        source="random",
    )
    save_checkpoint(path, model_tensors(encoder), card)


@pytest.mark.slow
def test_runs_have_one_parent_and_the_best_is_the_champion(
    project: Path, tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = {"parameters": 1000.0, "images_per_s": 50.0, "peak_mb": 20.0}
    monkeypatch.setattr(compare_encoders, "encoder_cost", lambda path, device, generator: cost)
    dataset = write_dataset(project / "ds", (6,))
    params = yaml.safe_load(Path("params.yaml").read_text())
    for variant in ("psp", "e4e"):
        write_encoder(project / f"{variant}.safetensors", variant, tiny_models["generator"])
    params["models"] = tiny_models | {"encoder": str(project / "psp.safetensors")}
    params |= {"edits": []}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    done = CliRunner().invoke(cli.app, ["compare-encoders", dataset, "runs/both"], catch_exceptions=False)
    assert done.exit_code == 0
    written = json.loads(Path("runs/both/comparison.json").read_text())
    assert {row["encoder"] for row in written["encoders"]} == {"psp", "e4e"}
    assert f"best: {written['champion']}. " in done.output and "\nidentity " in done.output
    assert all({"mse", "lpips", "parameters", "images_per_s", "peak_mb"} <= set(row) for row in written["encoders"])

    track = load_params().track
    client = MlflowClient(track.uri)
    experiment = client.get_experiment_by_name(track.experiment)
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags.get("champion")]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert sorted(run.info.run_name.split(" ")[0] for run in children) == ["e4e", "psp"]
    told = parent.data.tags["mlflow.note.content"]
    assert f"**{written['champion']}** is the champion" in told and "\n| encoder | " in told
    assert {"comparison.json", "comparison.png"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert parent.data.metrics == {}
    assert all(cost.items() <= run.data.metrics.items() and "mean rank" in run.data.metrics for run in children)
    assert champion(track.uri).name == written["champion"] == parent.data.tags["champion"]

    other = next(name for name in ("psp", "e4e") if name != written["champion"])
    alone = CliRunner().invoke(cli.app, ["compare-encoders", dataset, "runs/alone", "--variant", other])
    assert alone.exit_code == 0 and champion(track.uri).name == written["champion"]
    refused = CliRunner().invoke(cli.app, ["compare-encoders", dataset, f"runs/both/{other}"])
    assert isinstance(refused.exception, DataError) and "holds a run" in str(refused.exception)

    asked = ["run", dataset, "runs/best", "--set", "encode.encoder=champion", "--set", "tune.enabled=false"]
    assert CliRunner().invoke(cli.app, asked, catch_exceptions=False).exit_code == 0
    assert load_run("runs/best").params.encode.encoder == written["champion"]


def test_a_comparison_that_was_cut_off_is_made_anew(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redone: list[bool] = []

    def begin(source: str, place: str, *_: Any, update: bool) -> None:
        redone.append(update)
        Path(place).mkdir(parents=True, exist_ok=True)
        Path(place, "run.json").touch()
        raise CancelledRun("stopped")

    monkeypatch.setattr(compare_encoders, "edit_dataset", begin)
    for folder in ("runs/new", "runs/new", "runs/theirs"):
        if folder == "runs/theirs":
            Path("runs/theirs/psp").mkdir(parents=True)
            Path("runs/theirs/psp/run.json").touch()
        compare_encoders.compare_encoders.fn("ds", folder, ["psp"])
    assert redone == [True, True, False]


def test_a_name_that_is_taken_is_told_and_the_comparison_is_logged(
    project: Path, mlflow_store: str, tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    compared: Any = SimpleNamespace(encoders={"occupied": {}}, champion="occupied", judged=True)
    monkeypatch.setattr(compare_encoders, "track_comparison", lambda *given: logged.append(given[2]))
    MlflowClient(mlflow_store).create_registered_model("occupied", tags={"kind": "generator"})
    with disable_run_logger():
        paths = {"occupied": tiny_models["encoder"]}
        compare_encoders.log_comparison(load_params(), "ds", "runs/both", compared, paths)
    assert logged == ["encoders · ds"]
    refused = CliRunner().invoke(cli.app, ["register", tiny_models["encoder"], "--name", "occupied"]).exception
    told = "MLflow has a model 'occupied' of kind generator"
    assert isinstance(refused, UserError) and str(refused) == f"{told}: choose another name with --name"
    with pytest.raises(TrackingError, match=f"^{told}$"):
        register_checkpoint("occupied", tiny_models["encoder"], mlflow_store)
