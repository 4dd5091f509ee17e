"""The face square: five points and 68 agree, it follows its face, and unusable landmarks are named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_core.align.quad import FaceSquare, check_landmarks, check_square, face_square, five_points

FACE = np.array([[40.0, 50.0], [60.0, 50.0], [50.0, 60.0], [43.0, 72.0], [57.0, 72.0]])


def dlib_points() -> np.ndarray:
    points = np.random.default_rng(3).uniform(0, 100, (68, 2))
    points[36:42] += FACE[0] - points[36:42].mean(axis=0)
    points[42:48] += FACE[1] - points[42:48].mean(axis=0)
    points[[30, 48, 54]] = FACE[2:]
    return points


def test_square_of_an_upright_face_in_numbers() -> None:
    square = face_square(FACE)  # eyes 20 px apart, mouth 22 px below: half side max(40, 39.6)
    np.testing.assert_allclose(square.centre, [50, 52.2])
    np.testing.assert_allclose(square.corners, [[10, 12.2], [10, 92.2], [90, 92.2], [90, 12.2]])
    assert square.side == pytest.approx(80)


def test_68_points_reduce_to_five() -> None:
    np.testing.assert_allclose(five_points(dlib_points()), FACE)
    np.testing.assert_allclose(face_square(dlib_points()).corners, face_square(FACE).corners)


def test_other_numbers_of_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(6, 2\); expected \[5, 2\] or \[68, 2\]"):
        five_points(np.zeros((6, 2)))


@settings(max_examples=25)
@given(st.floats(-180, 180), st.floats(0.1, 50), st.floats(-500, 500), st.floats(-500, 500))
def test_square_turns_scales_and_moves_with_the_face(degrees: float, scale: float, x: float, y: float) -> None:
    angle = np.deg2rad(degrees)
    similarity = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = face_square(FACE @ similarity + [x, y]).corners
    np.testing.assert_allclose(moved, face_square(FACE).corners @ similarity + [x, y], atol=1e-8)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.full((5, 2), 30.0), "eyes 0 px apart"),
        (FACE[[0, 0, 2, 3, 4]], "eyes 0 px apart"),
        (FACE[[0, 1, 2, 0, 1]], "mouth 0 px from them"),
        (FACE * np.nan, "not a finite position: left eye, right eye"),
        (np.where(np.arange(10).reshape(5, 2) == 3, np.inf, FACE), "not a finite position: right eye"),
        ([[22, 0], [0, 0], [0, 0], [11, 22], [11, 22]], "eyes 22 px apart, mouth 22 px"),  # mirrored: the axis cancels
    ],
)
def test_degenerate_landmarks_are_named(points: np.ndarray, reason: str) -> None:
    rejected = check_landmarks(points)
    assert rejected is not None
    assert rejected.status == "degenerate_landmarks"
    assert reason in rejected.reason


@pytest.mark.parametrize("degrees", [0, 90, 200])
def test_exchanged_sides_are_refused_however_the_face_is_turned(degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array([[38.0, 50], [62, 50], [50, 60], [42, 70], [58, 70]]) @ turn.T
    assert check_landmarks(points) is None
    rejected = check_landmarks(points[[1, 0, 2, 4, 3]])
    assert rejected is not None and rejected.status == "degenerate_landmarks" and "exchanged" in rejected.reason


def test_usable_landmarks_pass() -> None:
    assert check_landmarks(FACE) is None


@pytest.mark.parametrize(
    ("centre", "side", "status"),
    [
        ((50, 50), 11.9, "tiny_face"),
        ((50, 50), 12.0, None),
        ((-0.4, 50), 40, None),
        ((-0.6, 50), 40, "out_of_frame"),
        ((99.6, 50), 40, "out_of_frame"),
        ((50, 79.6), 40, "out_of_frame"),
        ((50, 50), 801, "out_of_frame"),
    ],
)
def test_squares_that_cannot_be_cropped_are_named(centre: tuple[float, float], side: float, status: str | None) -> None:
    square = FaceSquare(np.array(centre), np.array([side / 2, 0.0]))
    rejected = check_square(square, 100, 80, min_side=12.0)
    assert (rejected.status if rejected else None) == status


def test_a_square_far_away_is_told_in_few_letters() -> None:
    for square in (
        FaceSquare(np.full(2, 1e308), np.array([20.0, 0.0])),
        FaceSquare(np.full(2, 50.0), np.full(2, 1e300)),
    ):
        rejected = check_square(square, 100, 80, min_side=12.0)
        assert rejected is not None and len(rejected.reason) < 100
