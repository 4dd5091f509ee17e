"""Five landmarks laid on the reference points of face recognition."""

import numpy as np
import pytest
from PIL import Image

from gan_core.align.similarity import REFERENCE, similarity, warp_face
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


def test_the_landmarks_of_a_picture_land_on_the_reference() -> None:
    pixels = np.zeros((300, 240, 3), np.uint8)
    points = REFERENCE * 1.7 + (20, 60)
    for x, y in points.round().astype(int):
        pixels[y - 3 : y + 4, x - 3 : x + 4] = 255
    face = np.asarray(warp_face(Image.fromarray(pixels), points.round()).convert("L"), np.float64)
    for x, y in REFERENCE:
        window = face[int(y) - 4 : int(y) + 6, int(x) - 4 : int(x) + 6]
        rows, columns = np.indices(window.shape)
        assert abs((columns * window).sum() / window.sum() + int(x) - 4 - x) < 0.5
        assert abs((rows * window).sum() / window.sum() + int(y) - 4 - y) < 0.5
