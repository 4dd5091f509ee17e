"""The bootstrap's error is that of drawing other rows, for a mean, for FID and for SWD."""

import numpy as np
import pytest

from gan_core.metrics.frechet import frechet_distance, gather
from gan_core.metrics.noise import bootstrap_error, frechet_of, mean_of, sliced_of
from gan_core.metrics.swd import sliced_wasserstein


def test_the_error_of_a_mean_is_the_known_one() -> None:
    values = np.random.default_rng(0).normal(size=400)
    assert bootstrap_error(mean_of(values), 400, 1000) == pytest.approx(values.std() / 20, rel=0.08)


def test_weights_of_one_give_the_number_itself() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(300, 8)), rng.normal(0.3, 1.2, size=(300, 8))
    assert frechet_of(one, other)(np.ones(300, int)) == pytest.approx(frechet_distance(gather(one), gather(other)))


def test_the_error_of_fid_is_its_spread_over_fresh_rows() -> None:
    rng = np.random.default_rng(1)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        one = rng.normal(size=(200, 4))
        return one, one * 1.3 + rng.normal(0.4, 0.5, size=(200, 4))

    fresh = np.std([frechet_distance(gather(a), gather(b)) for a, b in (draw() for _ in range(200))])
    said = np.mean([bootstrap_error(frechet_of(*draw()), 200, 100) for _ in range(5)])
    assert said == pytest.approx(fresh, rel=0.3)


def test_the_sliced_distance_grows_with_the_difference_and_has_a_small_error() -> None:
    rng = np.random.RandomState(0)
    ramps = np.linspace(20, 200, 16)[None, :, None, None] * rng.rand(40, 1, 16, 3) + 20
    real, near, far = (np.clip(ramps + rng.randn(40, 16, 16, 3) * s, 0, 255).astype(np.uint8) for s in (2, 8, 90))
    close, wide = sliced_of(real, near), sliced_of(real, far)
    ones = np.ones(40, int)
    assert close(ones) < 0.5 * wide(ones)
    assert wide(ones) == pytest.approx(sliced_wasserstein(real, far)["mean"], rel=0.2)
    assert 0 < bootstrap_error(wide, 40, 40) < 0.2 * wide(ones)
