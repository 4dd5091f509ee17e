"""The portraits that the networks learn from: rendered once, and anew when they would differ."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from gan_core.errors import DataError
from gan_core.toy.gan_params import FeatureParams
from gan_core.toy.renderer import SEGMENTATION_LABELS, factors_from_gaussian, render, sample_factors
from gan_core.toy.training import portraits
from gan_core.toy.training.portraits import ensure_portraits, gaussian_from_factors, load_portraits

SEED = 5


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    ensure_portraits(tmp_path / "train", 3, SEED)
    return tmp_path


def test_the_arrays_hold_what_the_renderer_draws(rendered: Path) -> None:
    found = load_portraits("train", rendered)
    drawn = render(sample_factors(range(SEED, SEED + 3)))
    assert len(found) == 3
    np.testing.assert_array_equal(found.segmentation, drawn.segmentation.numpy())
    np.testing.assert_allclose(found.images(np.array([2, 0])), drawn.image[[2, 0]], atol=1 / 127)


def test_features_weigh_more_and_so_does_what_is_near_them(rendered: Path) -> None:
    found, rows = load_portraits("train", rendered), np.arange(3)
    params = FeatureParams(feature_weights={"brows": 20.0, "mouth": 4.0}, feature_reach=2)
    weights = found.weights(rows, params)
    assert weights.shape == (3, 1, 64, 64)
    assert set(weights.unique().tolist()) == {1.0, 5.0, 21.0}
    for name, weight in (("brows", 21.0), ("mouth", 5.0)):
        shown = torch.from_numpy(found.segmentation[rows] == SEGMENTATION_LABELS.index(name))[:, None]
        near = F.max_pool2d(shown.float(), 5, stride=1, padding=2) > 0
        assert (weights[near] >= weight).all()
        assert ((weights == weight) <= near).all()


def test_a_feature_that_no_portrait_has_is_refused() -> None:
    with pytest.raises(ValidationError, match="no label nostril: the labels are background, skin"):
        FeatureParams(feature_weights={"nostril": 1.0})


def test_portraits_that_are_there_are_left_alone(rendered: Path) -> None:
    before = (rendered / "train/image.npy").stat().st_mtime_ns
    ensure_portraits(rendered / "train", 3, SEED)
    assert (rendered / "train/image.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize(("count", "seed"), [(2, SEED), (3, SEED + 1)])
def test_other_portraits_replace_them(rendered: Path, count: int, seed: int) -> None:
    ensure_portraits(rendered / "train", count, seed)
    found = load_portraits("train", rendered)
    assert len(found) == count
    np.testing.assert_array_equal(found.factors, sample_factors(range(seed, seed + count)).numpy())


def test_another_renderer_draws_them_anew(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (rendered / "train/image.npy").unlink()
    ensure_portraits(rendered / "train", 3, SEED)
    assert not (rendered / "train/image.npy").exists()
    monkeypatch.setattr(portraits, "renderer_sha256", lambda: "changed")
    ensure_portraits(rendered / "train", 3, SEED)
    assert len(load_portraits("train", rendered)) == 3


def test_missing_portraits_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"python -m gan_core\.toy\.training\.portraits"):
        load_portraits("train", tmp_path)


def test_gaussian_and_factors_are_each_others_inverse() -> None:
    z = torch.randn(4, len(sample_factors([0])[0]), generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    torch.testing.assert_close(gaussian_from_factors(factors_from_gaussian(z)), z, rtol=0, atol=2e-3)
