from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_core.encoders.base import Encoder
from gan_core.errors import CheckpointError
from gan_core.judges.segmenter import Segmenter, count_overlaps, mean_iou
from gan_core.loading import load_encoder, load_generator
from gan_core.params import ModelPaths, Params
from gan_core.toy.params import TrainMeasureParams, TrainTranslationParams, load_toy_params
from gan_core.toy.training import encoder as loop
from gan_core.toy.training.encoder import store_encoder
from gan_core.toy.training.encoder_losses import known_latents
from gan_core.toy.training.measure_networks import train_learner
from gan_core.toy.training.portraits import PortraitSet
from gan_core.toy.training.reconstruction import LossNetworks
from gan_core.toy.training.segmenter_learner import SegmenterLearner
from gan_core.toy.training.translation import (
    TranslationTraining,
    train_task,
)
from gan_core.translation.inputs import INPUTS, mirror_labels
from gan_core.translation.tasks import TASKS, decoder_path
from tests.conftest import ABOUT
from tests.reports import Reports

ROOT = Path(__file__).parents[3]
NETWORK = {"units": [1, 1, 1, 1], "width": 8, "input_size": 64}


@pytest.fixture(scope="module")
def portraits(drawn: PortraitSet) -> PortraitSet:
    return drawn


@pytest.fixture(scope="module")
def params(tiny_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Params:
    from gan_core.checkpoints.files import Card, save_checkpoint

    network = Segmenter(8)
    path = tmp_path_factory.mktemp("segmenter") / "segmenter.safetensors"
    about: dict[str, Any] = ABOUT
    save_checkpoint(path, network.state_dict(), Card(kind="network", name="segmenter", arguments={"width": 8}, **about))
    models = tiny_models | {"segmenter": str(path), "second_generator": tiny_models["generator"]}
    return Params(models=ModelPaths(**models))


@pytest.fixture(scope="module")
def chosen() -> dict[str, TrainTranslationParams]:
    base: dict[str, Any] = {"network": NETWORK, "images": 16, "batch_size": 8, "precision": "exact"}
    return {
        name: TrainTranslationParams(
            **base, losses=dict(task.losses), latent_images=0 if task.mirror_independently else 8
        )
        for name, task in TASKS
        if name != "inversion"
    }


@pytest.fixture(autouse=True)
def small_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = loop.reconstruction_grid
    monkeypatch.setattr(loop, "reconstruction_grid", lambda *given, **kw: grid(*given, count=12, **kw))


@pytest.mark.parametrize("name", [name for name in TASKS.names() if name != "inversion"])
def test_every_task_trains_by_the_loop_of_the_encoders(
    name: str, params: Params, chosen: dict[str, TrainTranslationParams], portraits: PortraitSet, tmp_path: Path
) -> None:
    task, reports, again = TASKS.get(name), Reports(), Reports()
    given = (task, chosen[name], params, portraits, portraits, tmp_path / "state.pt")
    encoder, scores = train_task(*given, reports)
    assert encoder.arguments["input_channels"] == INPUTS.get(task.input_kind)().channels
    assert set(reports[-1][1]) >= set(task.losses) | {"held_out/mse"}
    assert reports[-1][2].shape == (24, 3, 64, 64)
    assert np.isfinite(list(scores.values())).all()
    train_task(*given, again)
    assert again == [], "it goes on where it ended"


def test_an_encoder_starts_from_the_weights_of_inversion(
    params: Params, chosen: dict[str, TrainTranslationParams], portraits: PortraitSet, tmp_path: Path
) -> None:
    settings = chosen["sketch"].model_copy(update={"images": 8, "lr": 1e-12, "ema_images": 1e9})
    encoder, _ = train_task(TASKS.get("sketch"), settings, params, portraits, portraits, tmp_path / "s.pt", Reports())
    trained = load_encoder(params.models.encoder, load_generator(params.models.generator), "psp").model
    ours, theirs = encoder.state_dict(), trained.state_dict()
    torch.testing.assert_close(ours["styles.0.linear.weight"], theirs["styles.0.linear.weight"])
    assert ours["input_layer.0.weight"].shape[1] == 1, "the layer that reads the input is its own"


@pytest.fixture(scope="module")
def inversion(params: Params) -> Encoder:
    return load_encoder(params.models.encoder, load_generator(params.models.generator), "psp").model


@pytest.mark.parametrize("task", ["frontalisation", "segmentation", "inpainting"])
def test_the_latents_learnt_are_those_that_inversion_finds_in_the_target(
    task: str, params: Params, portraits: PortraitSet, inversion: Encoder
) -> None:
    networks, transform = LossNetworks.load(params.models), INPUTS.get(TASKS.get(task).input_kind)()
    training = TranslationTraining(TASKS.get(task), transform, inversion)
    batch = training.draw(portraits, networks.generator, 8, 4, torch.Generator().manual_seed(0))
    assert batch.seen.shape == (8, transform.channels, 64, 64) and batch.images.shape == (8, 3, 64, 64)
    assert torch.equal(batch.w, inversion.encode(batch.images[:4]))
    assert torch.equal(known_latents(batch, networks.generator), batch.w)


def test_portraits_and_label_maps_are_mirrored_together(
    params: Params, portraits: PortraitSet, inversion: Encoder
) -> None:
    training = TranslationTraining(TASKS.get("segmentation"), INPUTS.get("labels")(), inversion)
    one = PortraitSet(portraits.image[:1], portraits.segmentation[:1], portraits.factors[:1])
    batch = training.draw(one, LossNetworks.load(params.models).generator, 8, 1, torch.Generator().manual_seed(1))
    plain, truth = one.images(np.zeros(1, np.int64))[0], torch.from_numpy(one.segmentation[0])
    mirrored = [not torch.equal(image, plain) for image in batch.images]
    assert 0 < sum(mirrored) < 8
    for image, label, turned in zip(batch.images, batch.seen.argmax(1), mirrored, strict=True):
        assert torch.equal(image, plain.flip(2) if turned else plain)
        assert torch.equal(label, (mirror_labels(truth) if turned else truth).long())


def test_source_and_target_of_frontalisation_are_mirrored_apart(
    params: Params, portraits: PortraitSet, inversion: Encoder
) -> None:
    networks = LossNetworks.load(params.models)
    training = TranslationTraining(TASKS.get("frontalisation"), INPUTS.get("picture")(), inversion)
    batch = training.draw(portraits, networks.generator, 32, 0, torch.Generator().manual_seed(0))
    same = [torch.equal(*pair) for pair in zip(batch.seen, batch.images, strict=True)]
    turned = [torch.equal(seen, image.flip(2)) for seen, image in zip(batch.seen, batch.images, strict=True)]
    assert all(a != b for a, b in zip(same, turned, strict=True))
    assert 8 < sum(same) < 24


def test_a_stored_encoder_belongs_to_the_generator_that_draws(
    params: Params, chosen: dict[str, TrainTranslationParams], portraits: PortraitSet, tmp_path: Path
) -> None:
    task, settings = TASKS.get("inpainting"), chosen["inpainting"]
    encoder, scores = train_task(task, settings, params, portraits, portraits, tmp_path / "s.pt", Reports())
    path = tmp_path / "e.safetensors"
    store_encoder(encoder, path, decoder_path(params, task), settings, scores, "train-translation@inpainting")
    assert load_encoder(path, load_generator(params.models.generator), "psp").model.arguments == encoder.arguments
    with pytest.raises(CheckpointError, match="holds a network 'segmenter'"):
        load_generator(params.models.segmenter)


def test_the_projects_tasks_have_settings_and_one_budget() -> None:
    sections = load_toy_params(ROOT / "toy.yaml").train_translation
    assert set(sections) == set(TASKS.names()) - {"inversion"}
    assert len({(s.images, s.batch_size) for s in sections.values()}) == 1
    for name, settings in sections.items():
        assert set(TASKS.get(name).losses) <= set(settings.losses)


@pytest.mark.slow
def test_the_segmenter_learns_label_maps(portraits: PortraitSet, tmp_path: Path) -> None:
    settings = TrainMeasureParams(images=480, batch_size=8, width=8, precision="exact", lr=1e-2)
    torch.manual_seed(0)
    learner = SegmenterLearner(settings, portraits, portraits, tmp_path)
    with torch.no_grad():
        before = learner.score()["accuracy"]
    train_learner(learner, tmp_path / "state.pt", Reports())
    with torch.no_grad():
        after = learner.score()
    assert after["accuracy"] > max(0.6, before)
    assert 0.2 < after["mean_iou"] < 1


def test_mean_iou_counts_the_classes_that_occur() -> None:
    truth = torch.tensor([[0, 0, 1, 1]])
    assert mean_iou(count_overlaps(truth, truth)) == 1
    found = torch.tensor([[0, 1, 1, 2]])
    assert mean_iou(count_overlaps(found, truth)) == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
