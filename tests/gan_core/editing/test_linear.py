"""The fits find the one direction that moves an attribute and nothing else."""

import numpy as np
import pytest

from gan_core.editing.linear import FITS, condition

AXES = np.linalg.qr(np.random.default_rng(0).standard_normal((10, 10)))[0][:3]


@pytest.fixture(scope="module")
def labelled() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    w = random.standard_normal((3000, 10)) * np.linspace(0.5, 2, 10)
    return w, w @ AXES.T + 0.05 * random.standard_normal((3000, 3))


@pytest.mark.parametrize("method", FITS)
def test_a_direction_moves_its_own_label_and_hardly_the_others(method: str, labelled: tuple) -> None:
    moved = FITS[method](*labelled) @ AXES.T
    own = np.diag(moved)
    assert (own > 0.3).all()
    assert np.abs(moved - np.diag(own)).max() < 0.1 * own.min()


@pytest.mark.parametrize("method", FITS)
def test_directions_have_unit_length(method: str, labelled: tuple) -> None:
    assert np.linalg.norm(FITS[method](*labelled), axis=1) == pytest.approx(np.ones(3))


def test_a_condition_is_removed_exactly() -> None:
    others = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert condition(np.array([3.0, 4.0, 2.0]), others) == pytest.approx([0, 0, 1])


def test_without_conditions_the_normal_is_only_scaled() -> None:
    assert condition(np.array([3.0, 4.0]), np.empty((0, 2))) == pytest.approx([0.6, 0.8])
