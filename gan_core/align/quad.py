"""The oriented face square of FFHQ alignment, computed from facial landmarks (Karras et al. 2019, appendix C).

Coordinates are (x, y) in pixels, float64, with the centre of the first pixel at (0, 0). "Left" is the image's left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gan_core.geometry import SQUARE, Frame, Points
from gan_core.rows import Rejected

FIVE_POINT_NAMES = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")


@dataclass(frozen=True)
class FaceSquare:
    """A rotated square: ``centre [2]``, and ``half [2]``, the vector from there to the middle of the right side."""

    centre: Points
    half: Points

    @property
    def side(self) -> float:
        """The length of a side in pixels."""
        return float(np.hypot(*self.half) * 2)

    @property
    def corners(self) -> Points:
        """The corners ``[4, 2]``: top left, bottom left, bottom right, top right."""
        return self.framed(SQUARE)

    def framed(self, frame: Frame) -> Points:
        """The corners ``[4, 2]`` of the part of the square that is the picture, in the same order."""
        longer = max(frame.height, frame.width)
        c, x, y = self.centre, self.half * (frame.width / longer), _quarter_turn(self.half) * (frame.height / longer)
        return np.stack([c - x - y, c - x + y, c + x + y, c + x - y])


def five_points(landmarks: ArrayLike) -> Points:
    """Reduce landmarks to ``[5, 2]``: eye centres, nose tip and mouth corners, in the order of ``FIVE_POINT_NAMES``.

    Takes the points ``[68, 2]`` of the iBUG / dlib layout, or five points, which are returned unchanged. Raises
    ``ValueError`` for any other shape.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape == (5, 2):
        return points
    if points.shape != (68, 2):
        raise ValueError(f"landmarks have shape {points.shape}; expected [5, 2] or [68, 2]")
    return np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]])


def face_square(landmarks: ArrayLike) -> FaceSquare:
    """Return the square that FFHQ crops for these landmarks (Karras et al. 2019, appendix C).

    Landmarks are (x, y) in pixels, with the centre of the first pixel at (0, 0): left eye, right eye, nose, left and
    right corner of the mouth ``[5, 2]``, where left is the image's left; or the points ``[68, 2]`` of iBUG. Its axis is
    the eye-to-eye vector minus the eye-to-mouth vector turned by 90 degrees. Half its side is the larger of 2.0 eye
    distances and 1.8 eye-to-mouth distances. Degenerate landmarks give a square of side 0 or NaN, which ``align_face``
    refuses. Raises ``ValueError`` for landmarks of another shape.
    """
    eye_left, eye_right, _, mouth_left, mouth_right = five_points(landmarks)
    eye_avg = (eye_left + eye_right) * 0.5
    eye_to_eye = eye_right - eye_left
    eye_to_mouth = (mouth_left + mouth_right) * 0.5 - eye_avg
    axis = eye_to_eye - _quarter_turn(eye_to_mouth)
    length = np.hypot(*axis)
    scale = max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    half = axis / length * scale if length > 0 else axis
    return FaceSquare(eye_avg + eye_to_mouth * 0.1, half)


def check_landmarks(landmarks: ArrayLike) -> Rejected | None:
    """Return why landmarks ``[5, 2]`` or ``[68, 2]`` define no square of an upright face, or None.

    They are not finite, or coincide, or left and right are exchanged, which would turn the square by any angle.
    """
    points = five_points(landmarks)
    bad = [name for name, point in zip(FIVE_POINT_NAMES, points, strict=True) if not np.isfinite(point).all()]
    if bad:
        return Rejected("degenerate_landmarks", f"not a finite position: {', '.join(bad)}")
    across, to_mouth = points[1] - points[0], points[3:].mean(axis=0) - points[:2].mean(axis=0)
    between, down = np.hypot(*across), np.hypot(*to_mouth)
    square = face_square(points)
    if min(between, down) <= 1e-3 * max(between, down) or square.side == 0:  # points that coincide, up to rounding
        return Rejected("degenerate_landmarks", f"eyes {between:.3g} px apart, mouth {down:.3g} px from them")
    if _quarter_turn(across) @ to_mouth < 0:
        return Rejected("degenerate_landmarks", "left and right are exchanged: the eye at the image's left comes first")
    return None


def check_square(square: FaceSquare, width: int, height: int, min_side: float) -> Rejected | None:
    """Return why the square can't be cropped from a ``width`` x ``height`` image, or None if it can.

    The reasons are ``tiny_face`` and ``out_of_frame``. A square of more than eight times the longer side of the image
    is out of the frame too, because the crop would be almost only padding.
    """
    if square.side < min_side:
        return Rejected("tiny_face", f"the face square is {square.side:.1f} px wide, below {min_side:g} px")
    x, y = square.centre
    if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
        at = f"{np.round(x):.6g}, {np.round(y):.6g}"
        return Rejected("out_of_frame", f"the face's centre ({at}) is outside the {width}x{height} image")
    if square.side > 8 * max(width, height):
        side = f"{np.round(square.side):.6g}"
        return Rejected("out_of_frame", f"the face square is {side} px wide in a {width}x{height} image")
    return None


def _quarter_turn(v: Points) -> Points:
    """Turn a vector by 90 degrees, so that right becomes down."""
    return np.array([-v[1], v[0]])
