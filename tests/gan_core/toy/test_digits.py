"""Digits: their shapes, the generator trained on them, and paths fitted from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.errors import DataError, ParamsError
from gan_core.judges.scorers import load_scorers
from gan_core.loading import load_generator
from gan_core.params import ModelPaths, Params
from gan_core.paths.stored import load_paths
from gan_core.toy.digits import NAMES, Digits, digit_scorers, load_digits, shape_moments, write_digits
from gan_core.toy.params import ToyParams, TrainDigitsParams
from gan_core.toy.training import paths as digit_paths
from gan_core.toy.training import sngan
from gan_core.toy.trainings import TRAININGS
from gan_core.training import fit
from gan_core.training.fit_paths import PathFit, fit_paths
from gan_core.training.params import PathsParams
from tests.reports import Reports


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    write_digits(path)
    return load_digits(16, path)


def bar(x: slice, lean: int = 0) -> Tensor:
    image = torch.full((1, 1, 32, 32), -1.0)
    for y in range(8, 24):
        shift = lean * (15 - y) // 8
        image[0, 0, y, x.start + shift : x.stop + shift] = 1.0
    return image


def test_moments_of_bars() -> None:
    upright, leaning, broad = (
        shape_moments(b)[0] for b in (bar(slice(14, 18)), bar(slice(14, 18), 3), bar(slice(8, 24)))
    )
    names = dict(zip(NAMES, range(4), strict=True))
    assert upright[names["ink"]] == pytest.approx(64 / 1024)
    assert upright[names["slant"]].abs() < 1e-4
    assert leaning[names["slant"]] == pytest.approx(3 / 8, abs=0.05)
    assert broad[names["width"]] == pytest.approx(16 / 32 / 12**0.5, rel=0.02)
    assert broad[names["width"]] == pytest.approx(float(broad[names["height"]]), rel=1e-4)


def test_identity_tells_digits_apart(digits: Digits) -> None:
    scorers = digit_scorers(digits)
    seen = scorers.identity(digits.images)
    assert (seen.argmax(1) == digits.labels).float().mean() > 0.94
    assert torch.allclose(seen.square().sum(1), torch.ones(len(seen)), atol=1e-4)
    shares = scorers.attributes(digits.images)
    assert ((shares > -0.01) & (shares < 1.01)).float().mean() > 0.97


def test_missing_digits_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"python -m gan_core.toy.digits"):
        load_digits(16, tmp_path / "none.npz")


def test_training_the_generator_resumes(digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "SAVE_SECONDS", -1)
    params = TrainDigitsParams(channels=[8, 8, 8], z_dim=4, steps=4, batch_size=4)
    whole = sngan.train_digits(params, digits, tmp_path / "whole.pt", Reports())
    real = sngan.play
    steps = iter(range(10))

    def stopped(*arguments: object) -> dict[str, float]:
        if next(steps) == 3:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sngan, "play", stopped)
    with pytest.raises(KeyboardInterrupt):
        sngan.train_digits(params, digits, tmp_path / "state.pt", Reports())
    monkeypatch.setattr(sngan, "play", real)
    resumed = sngan.train_digits(params, digits, tmp_path / "state.pt", Reports())
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in whole.state_dict().items())


@pytest.mark.slow
def test_the_game_moves_the_pictures_towards_digits(digits: Digits, tmp_path: Path) -> None:
    params = TrainDigitsParams(channels=[16, 16, 16], z_dim=8, steps=60, batch_size=16, ema_steps=10)
    before = sngan.score_digits(sngan.GameState(params).average, digits)
    after = sngan.score_digits(sngan.train_digits(params, digits, tmp_path / "s.pt", Reports()), digits)
    assert after["shape_gap"] < 0.7 * before["shape_gap"]


def test_from_digits_to_named_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_digits()
    section = PathsParams(
        space="z",
        rank=None,
        steps=2,
        batch_size=4,
        reconstructor_size=32,
        rank_codes=4,
        attributes=["ink", "slant"],
    )
    generator = TrainDigitsParams(channels=[8, 8, 8], z_dim=6, steps=2, batch_size=4)
    toy, reports = ToyParams(train_digits=generator, train_digit_paths=section), Reports()
    TRAININGS["train-digits"].run(toy, Params(), reports)
    assert set(json.loads(Path("data/metrics/digits.json").read_text())) == {"confidence", "classes", "shape_gap"}
    TRAININGS["train-digit-paths@curvilinear"].run(toy, Params(), reports)
    assert [pictures.shape[1] for _, _, pictures in reports] == [3, 3]
    job = digit_paths.digit_fit("curvilinear", section)
    paths = load_paths(job.target, load_generator(job.generator_path)).model
    assert set(paths.named) == {"ink", "slant"}
    scores = json.loads(Path("data/metrics/digit-paths-curvilinear.json").read_text())
    assert scores["scores"]["undone"] < 1e-3
    assert np.isfinite(list(scores["scores"].values())).all()
    assert list(Path("data/training").iterdir()) == []
    assert load_generator(job.generator_path).model.size == 16


def test_attributes_that_nobody_sees_are_refused(models: ModelPaths, tmp_path: Path) -> None:
    section, target = PathsParams(attributes=["smiel"]), tmp_path / "p.safetensors"
    job = PathFit("identity", section, models.generator, load_scorers(models), target, "tests")
    with pytest.raises(ParamsError, match=r"unknown 'smiel'; did you mean 'smile'"):
        fit_paths(job, tmp_path, Reports())
