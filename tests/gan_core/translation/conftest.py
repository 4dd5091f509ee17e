"""Small encoders of every task, with random weights, and a small dataset of aligned portraits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.checkpoints.files import Card, file_sha256, save_checkpoint
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.judges.segmenter import Segmenter
from gan_core.loading import load_generator, model_tensors
from gan_core.params import ModelPaths, Params, TranslateParams
from gan_core.rows import Row
from gan_core.stages.translate import TranslateStage
from gan_core.storage.shards import read_rows
from gan_core.toy.params import SampleParams
from gan_core.toy.translation_sample import write_translation_sample
from gan_core.translation.inputs import INPUTS
from gan_core.translation.tasks import TASKS, translator_path
from tests.conftest import ABOUT, write_models


def write_translators(folder: Path) -> dict[str, str]:
    """Write small models, a segmenter, and an encoder for each task; return their paths by name in ``models``."""
    models = write_models(folder)
    models |= {"second_generator": models["generator"], "segmenter": str(folder / "segmenter.safetensors")}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        about: dict[str, Any] = ABOUT
        card = Card(kind="network", name="segmenter", arguments={"width": 8}, **about)
        save_checkpoint(models["segmenter"], Segmenter(8).state_dict(), card)
        generator, params = load_generator(models["generator"]).model, Params(models=ModelPaths(**models))
        for _, task in TASKS:
            encoder = GradualStyleEncoder.for_generator(
                generator,
                input_size=64,
                units=(1, 1, 1, 1),
                width=8,
                input_channels=INPUTS.get(task.input_kind)().channels,
            )
            own = about | {"space": "w_plus", "generator_sha256": file_sha256(models["generator"])}
            card = Card(kind="encoder", name="psp", arguments=encoder.arguments, **own)
            save_checkpoint(translator_path(params, task.name), model_tensors(encoder), card)
    return models


@pytest.fixture(scope="session")
def translators(tmp_path_factory: pytest.TempPathFactory) -> ModelPaths:
    return ModelPaths(**write_translators(tmp_path_factory.mktemp("translators")))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with two shards of six aligned portraits, four of the rows spoiled."""
    folder = tmp_path_factory.mktemp("translation-sample")
    write_translation_sample(folder, SampleParams(rows=12, shards=2))
    return str(folder)


@pytest.fixture(scope="session")
def rows(sample: str) -> list[Row]:
    return [row for shard in sorted(Path(sample).glob("*.parquet")) for part in read_rows(shard) for row in part]


@pytest.fixture
def build(translators: ModelPaths) -> Callable[..., TranslateStage]:
    """Builds the stage of a task with other settings of ``translate``."""

    def make(task: str, encoder_of: str = "", **settings: Any) -> TranslateStage:
        path = translator_path(Params(models=translators), encoder_of or task)
        return TranslateStage(TranslateParams(task=task, **settings), translators, str(path))

    return make
