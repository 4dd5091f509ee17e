"""Studies of encoders and of translations on tiny networks: their rows, and trainings that go on to more images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gan_core.editing.directions import Direction
from gan_core.judges.networks import load_network
from gan_core.loading import load_generator
from gan_core.params import EditParams, ModelPaths, Params
from gan_core.toy.params import (
    EncoderStudyParams,
    StudiedEncoderParams,
    TrainPix2PixParams,
    TrainTranslationParams,
    TranslationStudyParams,
)
from gan_core.toy.renderer import FACTOR_NAMES, FACTORS
from gan_core.toy.training import encoder, encoder_scores, encoder_study, pix2pix, translation_study
from gan_core.toy.training.encoder_study import Bench, EncoderStudy
from gan_core.toy.training.portraits import PortraitSet
from gan_core.toy.training.reconstruction import LossNetworks
from gan_core.toy.training.translation import task_training
from gan_core.toy.training.translation_study import TranslationStudy, by_turn, count_different
from gan_core.training.study import Row
from gan_core.translation.tasks import TASKS
from tests.reports import Reports

NETWORK = {"units": [1, 1, 1, 1], "width": 8, "input_size": 64}
EDIT = EditParams(direction="smile", strengths=[1.0])
TINY = {"latent_images": 0, "batch_size": 4, "precision": "exact", "ema_images": 100.0}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pictures in every measurement, and none of the distances between sets, which need more."""
    monkeypatch.setattr(encoder, "validate", lambda *_: {})
    monkeypatch.setattr(encoder, "reconstruction_grid", lambda *_, **__: torch.zeros(1, 3, 4, 4))
    monkeypatch.setattr(pix2pix, "evaluate_pictures", lambda *_: {})
    monkeypatch.setattr(pix2pix, "picture_grid", lambda *_, **__: torch.zeros(1, 3, 4, 4))
    monkeypatch.setattr(encoder_scores, "sliced_of", lambda *_: lambda every: 0.5)
    monkeypatch.setattr(encoder_scores, "SOURCES", 1)
    monkeypatch.setattr(encoder_scores, "REFERENCES", 2)
    monkeypatch.setattr(translation_study, "VARIED", 2)
    for module in (encoder_study, translation_study):
        monkeypatch.setattr(module, "images_per_second", lambda work, shape: work(torch.zeros(1, *shape)).shape[0])


@pytest.fixture
def study(models: ModelPaths, drawn: PortraitSet) -> EncoderStudy:
    held_out = PortraitSet(drawn.image[:6], drawn.segmentation[:6], drawn.factors[:6])
    bench = Bench.load(Params(models=models), held_out, 6)
    directions = dict(bench.directions) | {"hair_lightness": Direction("hair_lightness", torch.randn(16), "")}
    bench = replace(bench, params=Params(models=models, edits=[EDIT]), directions=directions)
    one = StudiedEncoderParams(network=NETWORK, **TINY)
    params = EncoderStudyParams(encoders={"plain": one}, seeds=[3], images=[4], further={})
    return EncoderStudy(params, models, bench.networks, drawn, held_out, bench)


def run(study: EncoderStudy | TranslationStudy, folder: Path, reports: Reports) -> list[Row]:
    folder.mkdir(exist_ok=True)
    return study.run(folder, folder / "rows.json", lambda _: reports)


@pytest.mark.slow
def test_an_encoder_of_a_study_goes_on_to_more_images(
    study: EncoderStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EncoderStudy, "_scores", lambda self, state: {"weights": total(state.latest_average())})
    reports, further = Reports(), replace(study, params=study.params.model_copy(update={"images": [4, 8]}))
    (first,) = run(study, tmp_path / "twice", reports)
    _, second = run(further, tmp_path / "twice", reports)
    assert reports.steps == [4, 8] and first["made_from"] == second["made_from"]
    at_once = replace(study, params=study.params.model_copy(update={"images": [8]}))
    assert run(at_once, tmp_path / "once", Reports())[0]["weights"] == second["weights"] != first["weights"]
    e4e = StudiedEncoderParams(network=NETWORK, architecture="e4e", **TINY)
    more = replace(further, params=further.params.model_copy(update={"encoders": {"plain": e4e, "new": e4e}}))
    assert more.key_of("plain") != first["made_from"], "other settings make other rows"


def total(network: torch.nn.Module) -> float:
    return sum(parameter.abs().double().sum().item() for parameter in network.parameters())


def test_what_is_said_of_an_encoder(study: EncoderStudy, tmp_path: Path) -> None:
    (row,) = run(study, tmp_path, Reports())
    assert list(row) == [
        *("method", "seed", "images", "made_from", "seconds", "parameters", "seconds_per_picture"),
        *("mse", "lpips", "identity", "fid", "swd", "fid of edits", "swd of edits"),
        *("move", "identity_after", "identity_kept", "reference_diversity"),
    ]
    assert row["seconds"] > 0 and row["parameters"] > 1000 and row["seconds_per_picture"] == 1.0
    assert row["reference_diversity"] == 0, "the editor's blocks begin without any change"


def test_both_rivals_have_rows_for_each_task(models: ModelPaths, drawn: PortraitSet, tmp_path: Path) -> None:
    settings = {"frontalisation": TrainTranslationParams(network=NETWORK, **TINY, losses={"l2": 1.0}, start=False)}
    tasks = {name: task_training(TASKS.get(name), each, Params(models=models)) for name, each in settings.items()}
    tiny = TrainPix2PixParams(
        network={"width": 4, "downs": 2, "blocks": 1},
        discriminator={"width": 4, "layers": 1, "scales": 1},
        batch_size=4,
        precision="exact",
    )
    params = TranslationStudyParams(
        tasks=list(tasks), seeds=[0], images=[4], portraits=3, latent_images=0, pix2pix=tiny
    )
    regressor = load_network(models.attributes, "attributes").model
    study = TranslationStudy(params, settings, tasks, models, LossNetworks.load(models), regressor, drawn, drawn)
    psp, rival = run(study, tmp_path, Reports())
    assert (psp["method"], rival["method"]) == ("psp-frontalisation", "pix2pix-frontalisation")
    assert (psp["outputs"], rival["outputs"]) == (4, 1) and psp["diversity"] > 0 == rival["diversity"]
    for row in (psp, rival):
        assert row["lpips_growth"] == pytest.approx(row["lpips turn 2"] - row["lpips turn 0"], abs=1e-5)
        assert row["yaw_after"] > 0 and row["lpips"] == pytest.approx(
            sum(row[f"lpips turn {i}"] for i in range(3)) / 3, rel=1e-4
        )


def test_thirds_by_turn_and_different_outputs() -> None:
    found = by_turn(torch.tensor([6.0, 1.0, 4.0]), torch.tensor([0.9, 0.1, 0.5]))
    assert found == {"lpips turn 0": 1.0, "lpips turn 1": 4.0, "lpips turn 2": 6.0, "lpips_growth": 5.0}
    outputs: Tensor = torch.zeros(2, 3, 3, 4, 4)
    outputs[0, 1] = 1.0
    assert count_different(outputs) == 1.5


def test_references_are_others_that_have_the_attribute(drawn: PortraitSet, models: ModelPaths) -> None:
    factors, column = torch.from_numpy(drawn.factors), FACTOR_NAMES.index("smile")
    rows = encoder_scores.reference_rows(factors, "smile")
    middle = (FACTORS[column].low + FACTORS[column].high) / 2
    assert rows.shape == (1, 2) and rows.min() >= 1 and (factors[rows.flatten(), column] > middle).all()
    perceptual = LossNetworks.load(models).perceptual
    assert encoder_scores.true_diversity(perceptual, factors, "smile") > 0


def test_edits_move_each_portrait_to_where_there_is_room(drawn: PortraitSet, models: ModelPaths) -> None:
    generator = load_generator(models.generator).model
    factors, latents = torch.from_numpy(drawn.factors), torch.zeros(12, generator.n_latent, 16)
    directions = {name: Direction(name, torch.ones(16), "") for name in encoder_scores.EDITS}
    moved = encoder_scores.edited_latents(latents, directions, factors)
    for name, codes in moved.items():
        assert torch.equal(codes[:, 0, 0], encoder_scores.sides(factors, name))
