"""The portraits that the networks learn from: rendered once, and anew when they would differ."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gan_core.errors import DataError
from gan_core.toy.renderer import factors_from_gaussian, render, sample_factors
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
