"""The flow that trains models as DVC's stages: what its form offers, what it refuses, what it makes."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prefect.utilities.callables import parameter_schema

from flows import train_models as flows
from gan_core.errors import ParamsError
from gan_core.toy.trainings import TRAININGS

ROOT = Path(__file__).parents[2]


def test_every_training_can_be_chosen() -> None:
    offered = parameter_schema(flows.train_models).model_dump()["properties"]["models"]["items"]["enum"]
    assert offered == [name for name, training in TRAININGS.items() if training.shipped] and len(offered) == 31


def test_the_deployment_keeps_its_name_and_trains_what_there_is() -> None:
    deployments = {d["name"]: d for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert deployments["models"]["entrypoint"] == f"{flows.__name__}.train_models"
    assert flows.train_models.name == "train-models"
    assert set(deployments["models"]["parameters"]["models"]) <= set(TRAININGS)


def test_stages_are_made_in_turn_and_unknown_ones_refused(on_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(flows, "reproduce", lambda stage, tell: made.append(stage))
    flows.train_models(["train-paths@linear", "fit-directions"])
    assert made == ["train-paths@linear", "fit-directions"]
    with pytest.raises(ParamsError, match=r"no training 'train-path'; did you mean .*'train-paths@linear'"):
        flows.train_models(["train-path"])
    with pytest.raises(
        ParamsError, match=r"no stage of dvc.yaml: train it with `python -m tasks.train train-encoder@alae`"
    ):
        flows.train_models(["train-encoder@alae"])
    assert len(made) == 2


def test_the_former_command_says_what_to_use() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.train_models", "encoder", "psp"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and "python -m tasks.train STAGE" in done.stderr
