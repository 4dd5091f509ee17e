"""Every registered training and path model, as on the CPU, with sizes that take a step or two."""

import copy
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core import precision
from gan_core.checkpoints.files import Card, file_sha256, load_checkpoint, save_checkpoint
from gan_core.device import computing, on_host, place
from gan_core.editing import refine
from gan_core.generators.sngan import SNGAN
from gan_core.judges import moves
from gan_core.loading import model_tensors
from gan_core.params import ModelPaths, Params
from gan_core.paths import naming
from gan_core.paths.base import PATHS
from gan_core.sections import Section
from gan_core.toy.digits import DIGITS, load_digits, write_digits
from gan_core.toy.params import (
    ToyParams,
    TrainDigitsParams,
    TrainEncoderParams,
    TrainHypernetworkParams,
    TrainShapesParams,
)
from gan_core.toy.training import cel, encoder, gan, sngan
from gan_core.toy.training.gan_scores import held_out_distance
from gan_core.toy.training.landmark_learner import LandmarkLearner
from gan_core.toy.training.measure_learners import IdentityLearner
from gan_core.toy.training.portraits import FOLDER, render_portraits
from gan_core.toy.training.sngan import TARGET, train_digits
from gan_core.toy.trainings import TRAININGS
from gan_core.training import directions, fit, latent_edit_losses, latent_edits
from gan_core.training.drawing import Drawing
from gan_core.training.params import DirectionsParams, PathsParams
from gan_core.training.paths import PathState, draw_moves, train_step
from tests.conftest import ABOUT
from tests.device.fakegpu import NAME
from tests.device.pretended.conftest import check_same, compare, there
from tests.gan_core.paths.test_path_models import DIM, small
from tests.gan_core.translation.conftest import write_translators
from tests.reports import Reports

THIN = {4: 8, 8: 8, 16: 8, 32: 8, 64: 8}
SIZES: dict[str, Any] = {
    **{"images": 8, "steps": 1, "batch_size": 4, "paired_images": 4, "adversarial_images": 8, "latent_images": 4},
    **{"r1_every": 1, "path_length_every": 1, "portraits": 4, "rendered": 4, "samples": 64, "refine_steps": 1},
    **{"classifier_steps": 1, "block_steps": 1, "picture_steps": 1, "rank_codes": 2, "latent_pool": 2},
    **{"mixing": 0.5, "rank": 3, "count": None, "blocks": ["smile"]},
    **{"channels": THIN, "discriminator_channels": THIN, "style_dim": 64, "n_mlp": 1, "hidden": [16, 8]},
    **{"embedding": 4, "heads": 2, "width": 8, "z_dim": 4, "reconstructor_size": 32, "precision": "exact"},
    "network": {"units": [1, 1, 1, 1], "width": 8, "input_size": 64},
}
"""Small values of the keys that sections of trainings have."""


def shrink(section: Section) -> Section:
    """Return a section with small values for the keys that it has; the others stay."""
    sizes = {name: value for name, value in SIZES.items() if name in type(section).model_fields}
    if isinstance(section, TrainEncoderParams):
        thin = SIZES["network"] | {"widths": [8] * len(section.network.get("widths", []))}
        known = {name: value for name, value in thin.items() if isinstance(section.network.get(name), type(value))}
        sizes["network"] = section.network | known
    if isinstance(section, TrainHypernetworkParams):
        sizes |= {"latent_images": 0, "encoder": "psp"}
    if isinstance(section, DirectionsParams):
        sizes["attributes"] = ["smile"]
    if isinstance(section, TrainDigitsParams | TrainShapesParams):
        sizes["channels"] = [8, 8, 8]
    return type(section).model_validate(section.model_dump() | sizes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What trainings read beside models: portraits, digits, and a generator of digits."""
    folder = tmp_path_factory.mktemp("data")
    for split, seed in (("train", 1), ("held_out", 50)):
        render_portraits(folder / FOLDER / split, 8, seed)
    write_digits(folder / DIGITS)
    generator = SNGAN([8, 8, 8], image_channels=1, z_dim=4)
    card = Card(kind="generator", name="sngan", arguments=generator.arguments, space="z", **ABOUT)
    (folder / TARGET).parent.mkdir(parents=True)
    save_checkpoint(folder / TARGET, model_tensors(generator), card)
    return folder


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> ModelPaths:
    """Models whose latents are wide enough for the factors of a portrait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.conftest.W_DIM", 48)
        return ModelPaths(**write_translators(tmp_path_factory.mktemp("learnt")))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of trainings that look at a few pictures only."""
    monkeypatch.setattr(IdentityLearner, "held_out_people", 2)
    monkeypatch.setattr(LandmarkLearner, "held_out_frames", 2)
    monkeypatch.setattr(moves, "SEARCHES", 1)
    monkeypatch.setattr(directions, "SEARCH_FACES", 2)
    monkeypatch.setattr(directions, "SCORE_FACES", 4)
    monkeypatch.setattr(directions, "layer_ranges", lambda n_latent: [(0, n_latent // 2)])
    monkeypatch.setattr(refine, "BATCH", 2)
    monkeypatch.setattr(latent_edits, "HELD_OUT", 8)
    monkeypatch.setattr(latent_edits, "SHOWN", 2)
    monkeypatch.setattr(latent_edit_losses, "PICTURES", 2)
    monkeypatch.setattr(naming, "CALIBRATION_CODES", 2)
    monkeypatch.setattr(naming, "CANDIDATES", 1)
    monkeypatch.setattr(naming, "PLACES", (-1.0, 1.0))
    grid = encoder.reconstruction_grid
    monkeypatch.setattr(encoder, "reconstruction_grid", lambda *given, **more: grid(*given, count=4, **more))
    for module in (gan, cel):
        monkeypatch.setattr(module, "held_out_distance", lambda *given, images=0: held_out_distance(*given, images=8))


SLOW = {
    *("train-digit-paths@warped", "train-digit-paths@curvilinear", "train-paths@warped", "train-paths@curvilinear"),
    *("train-encoder@restyle-psp", "train-encoder@restyle-e4e", "train-encoder@psp-w-plus", "train-cel"),
    *("train-encoder@psp-w", "train-encoder@style-transformer", "train-encoder@idinvert", "train-encoder@alae"),
    *("train-translation@inpainting", "train-translation@toonify", "train-translation@frontalisation"),
    *("train-network@landmarks", "train-network@segmenter", "train-shape-reader", "train-latent-edits"),
    *("train-translation@sketch", "train-translation@segmentation", "train-features"),
    *("train-encoder@e4e", "train-translation@super-resolution", "train-hypernetwork", "train-paths@linear"),
}
"""Trainings whose loop is that of another one; their networks are compared in tests of their own."""
ONE_PATH = {"train-paths@linear", "train-paths@warped", "train-paths@curvilinear"}
"""Every further path takes seconds to be named; orthogonal ones need as many as dimensions."""


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "stage", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in TRAININGS]
)
def test_trainings(stage: str, data: Path, learnt: ModelPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = TRAININGS[stage]
    section = shrink(training.section(ToyParams()))
    if stage in ONE_PATH:
        section = section.model_copy(update={"count": 1, "models": {"curvilinear": {"steps": 1}}})

    def train() -> Any:
        home = tmp_path / computing().kind
        shutil.copytree(data, home)
        shutil.copytree(Path(learnt.generator).parent, home / "models")
        monkeypatch.chdir(home)
        paths = {n: p.replace(str(Path(learnt.generator).parent), "models") for n, p in learnt}
        shutil.copy(home / "models/encoder.safetensors", home / "models/psp.safetensors")  # for the hypernetwork
        (home / "work").mkdir()
        before = hashes(home)
        reports = Reports()
        scores = training.make(section, Params(models=ModelPaths(**paths)), home / "work", reports)
        written = sorted(name for name, sha256 in hashes(home).items() if before.get(name) != sha256)
        assert written, "a training leaves a file"
        timeless = {name: value for name, value in scores.items() if name != "scores"}
        return [
            timeless,
            [dict(sorted(load_checkpoint(name).model.items())) for name in written],
            [r[1] for r in reports],
        ]

    check_same(train, 2e-3)


def hashes(folder: Path) -> dict[str, str]:
    """The hashes of all checkpoints in a folder, by path."""
    return {str(path): file_sha256(path) for path in sorted(folder.rglob("*.safetensors"))}


@pytest.mark.parametrize("name", PATHS.names())
def test_path_models(name: str) -> None:
    stream = torch.Generator().manual_seed(1)
    codes, probe = torch.randn(2, 3, DIM, generator=stream)
    which, amounts = torch.tensor([0, 3, 5]), torch.tensor([1.0, -2.0, 0.5])

    def move() -> list[Tensor]:
        model = place(copy.deepcopy(small(name)))
        here = [place(part) for part in (codes, which, amounts, probe)]
        start = here[0].clone().requires_grad_(True)
        moved, penalty = model.move_and_penalty(start, *here[1:])
        (moved.sum() + penalty.sum()).backward()
        return [model.move(*here[:3]), model.move_all(here[0], model.one_hot(*here[1:3])), moved, penalty, start.grad]

    check_same(move)


def test_a_fast_move_of_a_training_of_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32: the pretended device has no autocast."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    params = PathsParams(space="z", rank=None, batch_size=4, precision="fast", reconstructor_size=32)

    def step() -> dict[str, float]:
        with on_host():
            torch.manual_seed(0)
            generator = SNGAN([8, 8, 8], image_channels=1, z_dim=4).eval().requires_grad_(False)
        generator, stream = place(generator), torch.Generator().manual_seed(1)
        state = PathState.create("curvilinear", params, generator, "0" * 64)
        state.place(training=True)
        assert state.reconstructor.folds
        draw = Drawing(generator, params.space, params.precision)
        return train_step(state, params, draw, draw_moves(state.paths, params, generator, stream))

    check_same(step)


@pytest.mark.parametrize("first", ["cpu", NAME])
def test_a_training_goes_on_where_another_device_stopped(
    first: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = TrainDigitsParams(channels=[8, 8, 8], z_dim=4, steps=4, batch_size=4)
    digits = load_digits(16, data / DIGITS)
    monkeypatch.setattr(fit, "SAVE_SECONDS", -1)

    def train(path: str, steps: int = 99) -> Any:
        calls, real = iter(range(steps)), sngan.play
        with monkeypatch.context() as patch, suppress(StopIteration):
            patch.setattr(sngan, "play", lambda *given: (next(calls), real(*given))[1])
            return dict(train_digits(params, digits, tmp_path / path, Reports()).state_dict())

    def begin() -> None:
        train("state.pt", steps=2)

    begin() if first == "cpu" else there(begin)
    compare(train("whole.pt"), there(lambda: train("state.pt")) if first == "cpu" else train("state.pt"), 1e-5)
