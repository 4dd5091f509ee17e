"""Frechet distance against pytorch-fid and the exact formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_core.metrics.base import TooFewError
from gan_core.metrics.frechet import FrechetInceptionDistance, frechet_distance, gather, mean_and_covariance
from tests.golden.fill import fill, golden, relative_error

DIM = 48
RAMP = 1 + np.arange(DIM) / DIM


def sets(n_a: int, n_b: int) -> tuple[np.ndarray, np.ndarray]:
    a = fill(f"input:fid_a{n_a}", (n_a, DIM), rule="raw").astype(np.float64) * RAMP
    b = fill(f"input:fid_b{n_b}", (n_b, DIM), rule="raw").astype(np.float64)
    return a, b * RAMP[::-1] + 0.3 + 0.5 * np.roll(b, 1, axis=1)


@pytest.mark.parametrize("case", range(6))
def test_equals_the_published_formula(case: int) -> None:
    expected, _ = golden("fid-formula")
    n_a, n_b = int(expected["n_a"][case]), int(expected["n_b"][case])
    a, b = sets(n_a, n_b)
    distance = frechet_distance(gather(a), gather(b))
    assert distance == pytest.approx(expected["exact"][case], rel=1e-8)
    if min(n_a, n_b) > DIM:
        assert distance == pytest.approx(expected["pytorch_fid"][case], rel=1e-6)


def test_covariance_is_unbiased() -> None:
    a = sets(100, 100)[0]
    mean, covariance = mean_and_covariance(gather(a))
    assert relative_error(mean, a.mean(0)) < 1e-12
    assert relative_error(covariance, np.cov(a, rowvar=False)) < 1e-12


def test_a_set_is_at_distance_zero_from_itself_and_shifts_count_squared() -> None:
    a = sets(200, 200)[0]
    assert frechet_distance(gather(a), gather(a)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(gather(a), gather(a + 0.5)) == pytest.approx(0.25 * DIM, rel=1e-9)


def test_refuses_one_sample() -> None:
    with pytest.raises(TooFewError, match="needs at least 2 samples, there are 1"):
        frechet_distance(gather(np.ones((1, 3))), gather(np.ones((9, 3))))


def test_dataset_number_is_left_out_while_there_are_no_more_rows_than_features() -> None:
    features = np.random.default_rng(0).normal(size=(10, 9))
    states = {"toy-attr/aligned": gather(features), "toy-attr/encoded": gather(features + 1)}
    few = {name: gather(features[:9]) for name in states}
    assert FrechetInceptionDistance.compute(states).values["fid/toy-attr/encoded"] == pytest.approx(9)
    assert FrechetInceptionDistance.compute(few).values == {}
    assert FrechetInceptionDistance.compute(few).omitted == {
        "fid/toy-attr/encoded": "needs more than 9 rows, there are 9"
    }


@settings(max_examples=25)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_any_split_gives_the_statistics_of_the_whole(first: int, second: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(30, 5)).astype(np.float32)
    ends = sorted((first, second))
    parts = [gather(part) for part in np.split(features, ends)]
    merged = FrechetInceptionDistance.merge(FrechetInceptionDistance.merge(parts[0], parts[1]), parts[2])
    whole = gather(features)
    assert merged["n"] == whole["n"] == 30
    assert relative_error(merged["sum"], whole["sum"]) < 1e-12
    assert relative_error(merged["outer"], whole["outer"]) < 1e-12
