"""Fitting on labelled samples finds, calibrates and places the directions of a world where the right ones are known."""

import json
from pathlib import Path

import pytest
import torch

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.editing.directions import Direction, load_directions
from gan_core.editing.linear import FITS
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.judges.networks import AttributeRegressor, IdentityEmbedder
from gan_core.judges.scorers import Scored, Scorers
from gan_core.loading import load_generator, model_tensors
from gan_core.params import ModelPaths, Params
from gan_core.toy.params import ToyParams
from gan_core.toy.trainings import TRAININGS
from gan_core.training import directions as training
from gan_core.training.params import DirectionsParams
from tests.reports import Reports

NAMES = ("pose", "colour", "age")


@pytest.fixture(scope="module")
def faces(world: Generator, scorers: Scorers) -> Scored:
    return training.sample_faces(world, 1500, 0, scorers)


@pytest.fixture(scope="module")
def found(world: Generator, scorers: Scorers, faces: Scored) -> dict[str, Direction]:
    fits, others = training.fit_all(faces), training.sample_faces(world, 200, 1, scorers)
    params = DirectionsParams(refine_steps=10)
    drafts = [Direction(name, torch.empty(0), "0" * 64) for name in NAMES]
    return {draft.name: training.choose_direction(world, others, fits, scorers, draft, params) for draft in drafts}


def test_the_world_is_hard_enough(faces: Scored) -> None:
    assert torch.corrcoef(faces.attributes.T)[1, 2] > 0.4


@pytest.mark.parametrize("name", NAMES)
def test_strength_one_moves_half_of_the_range_and_leaves_the_rest(name: str, found: dict[str, Direction]) -> None:
    scores = found[name].scores
    assert scores["move"] == pytest.approx(0.5, abs=0.02)
    assert scores["side_effect"] < 0.05
    assert scores["identity_kept"] > 0.97


@pytest.mark.parametrize(("name", "i"), [*zip(NAMES, range(3), strict=True)])
def test_the_direction_is_that_of_the_world(
    name: str, i: int, found: dict[str, Direction], world: Generator, scorers: Scorers
) -> None:
    axis = world.axes[i]  # type: ignore[index]
    first, last = found[name].layers or (0, 6)
    vector = found[name].vector.expand(6, -1)[first:last]
    assert torch.cosine_similarity(vector.mean(0), axis, dim=0) > 0.97


def test_samples_depend_on_the_seed_alone(world: Generator, scorers: Scorers) -> None:
    first, again, other = (training.sample_faces(world, 5, seed, scorers) for seed in (1, 1, 2))
    assert torch.equal(first.w_plus, again.w_plus)
    assert not torch.equal(first.w_plus, other.w_plus)


def test_layer_ranges_are_all_different_parts() -> None:
    ranges = training.layer_ranges(10)
    assert (0, 3) in ranges
    assert (0, 10) not in ranges
    assert len(set(ranges)) == len(ranges) == 9
    assert all(0 <= first < last <= 10 for first, last in ranges)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelPaths:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    parts = {
        "generator": ("generator", "stylegan2", StyleGAN2(8, style_dim=8, n_mlp=1, channels={4: 8, 8: 8})),
        "attributes": ("network", "attributes", AttributeRegressor(["smile", "yaw"], width=8, features=8)),
        "identity": ("network", "identity", IdentityEmbedder(width=8, dim=8)),
    }
    for file, (kind, name, model) in parts.items():
        card = Card(kind=kind, name=name, arguments=model.arguments, made_by="t", licence="none", source="t")
        save_checkpoint(folder / f"{file}.safetensors", model_tensors(model), card)
    paths = {file: str(folder / f"{file}.safetensors") for file in (*parts, "directions")}
    return ModelPaths(**paths)


def test_the_training_writes_directions_and_metrics(
    models: ModelPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    section = DirectionsParams(samples=60, attributes=["yaw"], move=0.4, refine_steps=2)
    TRAININGS["fit-directions"].run(ToyParams(directions=section), Params(models=models), Reports())
    (yaw,) = load_directions(models.directions, load_generator(models.generator)).model.values()
    assert yaw.name == "yaw" and yaw.unit.endswith(" of the attribute's range (0.4 is too far)"), "of random networks"
    assert yaw.vector.shape == {"w": (8,), "w_plus": (4, 8)}[yaw.space]
    metrics = json.loads(Path("data/metrics/directions.json").read_text())
    assert metrics["yaw"]["move"] == pytest.approx(yaw.scores["move"], abs=1e-4)
    assert yaw.method.removesuffix(", refined").removesuffix(" given identity") in FITS
    assert (yaw.space == "w_plus") == yaw.method.endswith(", refined")


def test_an_unknown_attribute_is_refused_before_sampling(models: ModelPaths) -> None:
    with pytest.raises(ParamsError, match=r"directions.attributes: unknown attribute 'smlie'; did you mean 'smile'"):
        training.train_directions(DirectionsParams(attributes=["smlie"]), models)
