"""Sliced Wasserstein distance against ProGAN's own numbers, and its sample."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_core.metrics import swd
from gan_core.metrics.base import TooFewError
from tests.golden.fill import fill, golden, relative_error


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return golden("swd")[0]


def pictures(name: str, blur: float) -> np.ndarray:
    x = scipy.ndimage.gaussian_filter(fill(f"input:{name}", (16, 3, 64, 64), rule="raw"), [0, 0, blur, blur])
    pixels = np.clip(np.rint(x / x.std() * 50 + 127), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def test_equals_the_published_distance(expected: dict[str, np.ndarray]) -> None:
    rng = np.random.RandomState(1000)
    real, fake = pictures("swd_a", 1.0), pictures("swd_b", 1.5)
    reals = swd.describe(real, rng, chunk=16)
    floor = [1000 * swd.sliced_distance(reals[r], reals[r], rng) for r in (64, 32, 16)]
    fakes = swd.describe(fake, rng, chunk=16)
    distances = [1000 * swd.sliced_distance(reals[r], fakes[r], rng) for r in (64, 32, 16)]
    assert floor == [0, 0, 0]
    assert relative_error([*distances, np.mean(distances)], expected["fakes"]) < 1e-4


def test_pyramid_and_patches_equal_the_published_ones(expected: dict[str, np.ndarray]) -> None:
    two = torch.from_numpy(pictures("swd_a", 1.0)[:2].astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    levels = swd.laplacian_pyramid(two)
    assert relative_error(levels[0][:, :, ::4, ::4], expected["pyramid0"]) < 1e-4
    assert relative_error(levels[1][:, :, ::2, ::2], expected["pyramid1"]) < 1e-4
    assert relative_error(levels[-1], expected["pyramid_last"]) < 1e-4
    patches = swd.cut_patches(levels[1].numpy(), swd.draw_places(2, 32, 4, np.random.RandomState(1001)))
    assert relative_error(patches, expected["descriptors"]) < 1e-4
    assert relative_error(swd.normalise(patches), expected["descriptors_final"]) < 1e-4


def test_large_images_are_described_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    images, sizes, pyramid = pictures("swd_a", 1.0), [], swd.laplacian_pyramid
    whole = swd.describe(images, np.random.RandomState(3))
    monkeypatch.setattr(swd, "LARGE", 8)
    monkeypatch.setattr(swd, "laplacian_pyramid", lambda part: sizes.append(len(part)) or pyramid(part))
    parts = swd.describe(images, np.random.RandomState(3))
    assert sizes == [1] * 16
    for resolution, patches in whole.items():
        np.testing.assert_allclose(parts[resolution], patches, atol=1e-4)


def test_sliced_distance_equals_the_published_one(expected: dict[str, np.ndarray]) -> None:
    one = fill("input:swd_d1", (200, 27), rule="raw")
    other = np.float32(1.2) * fill("input:swd_d2", (200, 27), rule="raw") + np.float32(0.1)
    distance = swd.sliced_distance(one, other, np.random.RandomState(1002))
    assert distance == pytest.approx(float(expected["sliced"]), rel=1e-4)


def test_distance_grows_with_the_difference() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(60, 190, (32, 16, 16, 3)).astype(np.uint8)
    near = np.clip(images + rng.normal(0, 5, images.shape), 0, 255).astype(np.uint8)
    far = np.repeat(np.repeat(images[:, ::4, ::4], 4, 1), 4, 2)
    assert swd.sliced_wasserstein(images, images)["mean"] < swd.sliced_wasserstein(images, far)["mean"]
    assert swd.sliced_wasserstein(images, near)["mean"] < swd.sliced_wasserstein(images, far)["mean"]


def test_refuses_few_or_odd_images() -> None:
    images = np.zeros((40, 64, 64, 3), np.uint8)
    with pytest.raises(TooFewError, match="at least 32 rows"):
        swd.sliced_wasserstein(images[:31], images[:31])
    with pytest.raises(TooFewError, match="square images of 16 x 2\\^k pixels, these have 48 x 48"):
        swd.sliced_wasserstein(images[:, :48, :48], images[:, :48, :48])
    for wide in (np.zeros((40, 64, 128, 3), np.uint8), images[:, ::2, ::2]):
        with pytest.raises(TooFewError, match="needs images of 64 px in both sets"):
            swd.sliced_wasserstein(images, wide)


def test_flat_images_give_zero_and_not_nan() -> None:
    flat = np.full((32, 16, 16, 3), 100, np.uint8)
    assert swd.sliced_wasserstein(flat, flat)["mean"] == 0


@settings(max_examples=12)
@given(st.sets(st.text(min_size=1, max_size=4), min_size=2, max_size=20), st.integers(1, 8), st.data())
def test_any_split_gives_the_sample_of_the_whole(names: set[str], size: int, data: st.DataObject) -> None:
    keys = sorted(names)
    images = np.arange(len(keys), dtype=np.uint8).reshape(-1, 1, 1, 1)
    part = data.draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys)))
    rows = [[i for i, here in enumerate(part) if here is side] for side in (True, False)]
    halves = [swd.sample([keys[i] for i in side], images[side], size) for side in rows]
    whole = swd.sample(keys, images, size)
    for merged in (swd.SlicedWasserstein.merge(*halves), swd.SlicedWasserstein.merge(*halves[::-1])):
        assert {name: value.tolist() for name, value in merged.items()} == {k: v.tolist() for k, v in whole.items()}
