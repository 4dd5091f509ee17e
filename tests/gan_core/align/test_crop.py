"""FFHQ crops against the published scripts (golden), and what the cropping promises beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_core.align.crop import align_face, prepare_view
from gan_core.align.quad import FaceSquare, face_square
from tests.golden.fill import pattern

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "ffhq-alignment.npz")
SIZES = {"interior": (480, 600), "padded": (400, 420), "shrunk": (1300, 1400), "rotated90": (500, 500)}
OUTPUTS: dict[str, tuple[dict[str, Any], int]] = {
    "256": ({"size": 256, "transform_size": 256}, 4),
    "64": ({"size": 64, "transform_size": 256}, 1),
    "128_from_512": ({"size": 128, "transform_size": 512}, 2),
    "64_nopad": ({"size": 64, "transform_size": 256, "enable_padding": False}, 1),
}


def golden_image(name: str) -> Image.Image:
    return Image.fromarray(pattern(*SIZES[name]))


@pytest.mark.parametrize("name", SIZES)
def test_square_is_the_published_quad(name: str) -> None:
    square = face_square(GOLDEN[f"{name}__landmarks"])
    np.testing.assert_allclose(square.corners, GOLDEN[f"{name}__quad"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(square.side, GOLDEN[f"{name}__qsize"], rtol=1e-9)


@pytest.mark.parametrize("name", SIZES)
def test_quad_given_to_the_transform_is_the_published_one(name: str) -> None:
    square = face_square(GOLDEN[f"{name}__landmarks"])
    view = prepare_view(golden_image(name), square, 256, enable_padding=True)
    np.testing.assert_allclose(view.quad, GOLDEN[f"{name}__quad_final"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", SIZES)
def test_crop_is_the_published_one_within_a_grey_level(name: str, output: str) -> None:
    options, stride = OUTPUTS[output]
    crop = align_face(golden_image(name), face_square(GOLDEN[f"{name}__landmarks"]), **options)
    difference = np.int16(crop)[::stride, ::stride] - np.int16(GOLDEN[f"{name}__{output}"])
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_landmarks_that_give_no_square_are_refused(value: float) -> None:
    landmarks = np.zeros((5, 2))
    landmarks[0] = value
    landmarks[1:] = 0 if value == 0 else GOLDEN["interior__landmarks"][:4]
    with pytest.raises(ValueError, match=r"^the face square is \S+ px wide at .*landmarks that coincide or are not"):
        align_face(golden_image("interior"), face_square(landmarks), 64, 64)


def test_whole_image_square_reproduces_the_image() -> None:
    image = golden_image("interior").crop((0, 0, 64, 64))
    square = FaceSquare(np.array([31.5, 31.5]), np.array([32.0, 0.0]))
    crop = align_face(image, square, 64, 64, enable_padding=False)
    np.testing.assert_array_equal(np.asarray(crop), np.asarray(image))


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (2, 3000)])
@pytest.mark.parametrize("side", [13.0, 300.0, 20_000.0])
def test_extreme_images_and_squares_still_give_a_crop(shape: tuple[int, int], side: float) -> None:
    image = Image.fromarray(np.full((*shape, 3), 200, np.uint8))
    square = FaceSquare(np.array([shape[1] / 2, shape[0] / 2]), np.array([side / 2, side / 8]))
    crop = np.asarray(align_face(image, square, 16, 32))
    assert crop.shape == (16, 16, 3)
    assert (crop == 200).all()
