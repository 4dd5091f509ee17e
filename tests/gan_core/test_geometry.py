"""Five landmarks laid on the reference points of face recognition."""

import numpy as np
import pytest

from gan_core.geometry import REFERENCE, similarity
from tests.golden.fill import golden


def test_the_matrices_are_the_published_ones() -> None:
    expected, _ = golden("five-point-similarity")
    np.testing.assert_allclose(REFERENCE, expected["reference"], atol=1e-5)
    for points, matrix in zip(expected["points"], expected["matrices"], strict=True):
        np.testing.assert_allclose(similarity(points, expected["reference"]), matrix, rtol=1e-4, atol=1e-5)


def test_mirrored_points_are_turned_only_if_that_is_forbidden() -> None:
    mirrored = REFERENCE * (-1, 1) + (112, 0)
    exact, turned = similarity(mirrored), similarity(mirrored, reflection=False)
    np.testing.assert_allclose(mirrored @ exact[:, :2].T + exact[:, 2], REFERENCE, atol=1e-6)
    assert np.linalg.det(exact[:, :2]) < 0 < np.linalg.det(turned[:, :2])


def test_points_in_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="one place"):
        similarity(np.ones((5, 2)))
