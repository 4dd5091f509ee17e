"""Digits: their shapes, the generator trained on them, and paths fitted from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flows import digits as download
from gan_core.errors import DataError, ParamsError
from gan_core.loading import load_generator
from gan_core.params import ModelPaths, Params, PathsParams, TrainDigitsParams
from gan_core.paths.stored import load_paths
from gan_core.toy.digits import NAMES, Digits, digit_eyes, load_digits, shape_moments
from gan_core.toy.training import paths as fit
from gan_core.toy.training import sngan


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "TARGET", path)
        download.main()
    return load_digits(16, path)


def silent(seen: int, metrics: dict[str, float], pictures: Tensor) -> None:
    assert pictures.shape[1] == 3


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
    eyes = digit_eyes(digits)
    seen = eyes.identity(digits.images)
    assert (seen.argmax(1) == digits.labels).float().mean() > 0.94
    assert torch.allclose(seen.square().sum(1), torch.ones(len(seen)), atol=1e-4)
    shares = eyes.attributes(digits.images)
    assert ((shares > -0.01) & (shares < 1.01)).float().mean() > 0.97


def test_missing_digits_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"python -m flows.digits"):
        load_digits(16, tmp_path / "none.npz")


def test_training_the_generator_resumes(digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sngan, "SAVE_EVERY", 2)
    params = TrainDigitsParams(channels=[8, 8, 8], z_dim=4, steps=4, batch_size=4)
    whole = sngan.train_digits(params, digits, tmp_path / "whole.pt", silent)
    real = sngan.play
    steps = iter(range(10))

    def stopped(*arguments: object) -> dict[str, float]:
        if next(steps) == 3:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sngan, "play", stopped)
    with pytest.raises(KeyboardInterrupt):
        sngan.train_digits(params, digits, tmp_path / "state.pt", silent)
    monkeypatch.setattr(sngan, "play", real)
    resumed = sngan.train_digits(params, digits, tmp_path / "state.pt", silent)
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in whole.state_dict().items())


def test_the_game_moves_the_pictures_towards_digits(digits: Digits, tmp_path: Path) -> None:
    params = TrainDigitsParams(channels=[16, 16, 16], z_dim=8, steps=60, batch_size=16, ema_steps=10)
    before = sngan.score_digits(sngan.GameState(params).average, digits)
    after = sngan.score_digits(sngan.train_digits(params, digits, tmp_path / "s.pt", silent), digits)
    assert after["shape_gap"] < 0.7 * before["shape_gap"]


def test_from_digits_to_named_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    download.main()
    params = Params(
        train_digits=TrainDigitsParams(channels=[8, 8, 8], z_dim=6, steps=2, batch_size=4),
        train_digit_paths=PathsParams(
            space="z",
            rank=None,
            steps=2,
            batch_size=4,
            reconstructor_size=32,
            rank_codes=4,
            attributes=["ink", "slant"],
        ),
    )
    sngan.train(params, silent)
    assert set(json.loads(sngan.SCORES.read_text())) == {"confidence", "classes", "shape_gap"}
    job = fit.find_job("digit-paths-curvilinear", params)
    fit.fit_paths(job, silent)
    paths = load_paths(job.target, load_generator(job.generator_path)).model
    assert set(paths.named) == {"ink", "slant"}
    scores = json.loads(Path("data/metrics/digit-paths-curvilinear.json").read_text())
    assert scores["scores"]["undone"] < 1e-3
    assert np.isfinite(list(scores["scores"].values())).all()
    assert not job.state.exists()
    assert load_generator(job.generator_path).model.size == 16


def test_attributes_that_nobody_sees_are_refused(models: ModelPaths, tmp_path: Path) -> None:
    job = fit.network_job("identity", PathsParams(attributes=["smiel"]), models, tmp_path / "p.safetensors")
    with pytest.raises(ParamsError, match=r"unknown 'smiel'; did you mean 'smile'"):
        fit.fit_paths(job, silent)
