"""The benchmark of photographs: its damages have an order, and its numbers are what they say."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.photographs import SIZE, Face, corner_distance, false_faces, order, squares
from gan_core.align.landmarks import CentreSquare, LandmarkSource
from gan_core.align.quad import FaceSquare
from gan_core.rows import Rejected
from gan_core.stages.damage import DAMAGES, damaged


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Return smooth blobs of colour."""
    coarse = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("kind", DAMAGES)
def test_stronger_damages_change_more_pixels(kind: str, picture: Image.Image) -> None:
    def pixels(before: object, after: object) -> np.ndarray:
        return np.asarray((before - after).square().mean((1, 2, 3)))  # type: ignore[operator]

    assert all(damaged(picture, kind, strength).size == (SIZE, SIZE) for strength in DAMAGES[kind])
    assert order(pixels, [picture], kind) == pytest.approx(1)
    assert order(lambda before, after: -pixels(before, after), [picture], kind) == pytest.approx(-1)


def test_corners_are_compared_in_sides_of_the_second_square() -> None:
    square = FaceSquare(np.array([50.0, 50.0]), np.array([10.0, 0.0]))
    moved = FaceSquare(np.array([53.0, 54.0]), np.array([10.0, 0.0]))
    assert corner_distance(square, square) == 0
    assert corner_distance(moved, square) == pytest.approx(5 / 20)


def test_squares_are_in_pixels_of_the_photograph() -> None:
    class Nothing(LandmarkSource):
        def landmarks(self, image: Image.Image, row: object) -> Rejected:
            return Rejected("no_face", "")

    faces = {"a": Face(Image.new("RGB", (300, 300)), (100, 50, 200, 150))}
    found, cost = squares(CentreSquare(), faces)
    np.testing.assert_allclose(found["a"].centre, [149.5, 99.5])
    assert cost >= 0 and squares(Nothing(), faces)[0] == {}
    assert false_faces(Nothing(), {"x": faces["a"].photograph}) == 0
    assert false_faces(CentreSquare(), {"x": faces["a"].photograph}) == 1
