"""A task whose encoder is not there says how to get it, by commands that exist."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from gan_core.errors import CheckpointError
from gan_core.params import load_params
from gan_core.toy.trainings import TRAININGS
from gan_core.translation.tasks import PSP_TASKS, TASKS, TranslationTask, find_translator


@pytest.mark.parametrize("task", [task.name for task in PSP_TASKS if task.name != "inversion"])
def test_the_commands_that_train_an_encoder_exist(project: Path, task: str) -> None:
    with pytest.raises(CheckpointError, match="train it") as missing:
        find_translator(load_params(), task)
    commands = re.search("`(.*)`", str(missing.value)).group(1).split(" && ")
    for python, minus_m, module, *stage in map(shlex.split, commands):
        assert (python, minus_m) == ("python", "-m") and find_spec(module)
        assert set(stage) <= set(TRAININGS)
    assert len(commands) == 2 and "\n" not in str(missing.value)


def test_what_is_named_or_there_is_used(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params(overrides={"models.encoder": "psp.safetensors"})
    assert find_translator(params, "inversion") == "psp.safetensors"
    Path("translate-sketch.safetensors").touch()
    assert find_translator(params, "sketch") == "translate-sketch.safetensors"
    assert find_translator(load_params(overrides={"translate.encoder": "mine"}), "toonify") == "mine"
    monkeypatch.setitem(TASKS._items, "theirs", TranslationTask("theirs", "picture", {}))
    with pytest.raises(CheckpointError, match=r"translate-theirs\.safetensors: name one in translate.encoder"):
        find_translator(params, "theirs")
