"""Landmarks of photographs by dlib: its HOG detector, followed by its 68-point or 5-point shape predictor.

dlib and the model files are installed with ``pip install 'edit-dataset[align]'``. The 68-point model was trained on
iBUG 300-W, whose terms exclude commercial use. The 5-point model has no such restriction, but no mouth points either.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import cache
from types import ModuleType
from typing import ClassVar, Protocol

import numpy as np
from PIL import Image

from gan_core.align.landmarks import LANDMARK_SOURCES, LandmarkSource
from gan_core.checkpoints.files import file_sha256
from gan_core.checkpoints.packaged import Packaged
from gan_core.errors import CheckpointError
from gan_core.geometry import Points
from gan_core.rows import Rejected, Row

LOOK_AT = 640
"""Longest side in pixels of the copy that the detector gets first. If it finds nothing, a second copy is twice as long.

It bounds the time per image, which grows with the number of pixels.
"""
MOUTH_DEPTH, MOUTH_WIDTH = 1.3, 0.47
"""Assumed mouth position: its depth below the eyes in eye-to-nose distances, and half its width in eye distances.

The values lie between those of a neutral face, whose mouth is lower and narrower, and of a smile.
"""

INSTALL = "pip install 'edit-dataset[align]'"
SHA256 = {
    "shape_predictor_68_face_landmarks.dat": "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
    "shape_predictor_5_face_landmarks.dat": "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
}
PREDICTORS = {
    file: Packaged("face_recognition_models", f"models/{file}", "face_recognition_models==0.3.0", sha256, INSTALL)
    for file, sha256 in SHA256.items()
}

Box = tuple[float, float, float, float]


class _Rectangle(Protocol):
    def left(self) -> int: ...
    def top(self) -> int: ...
    def right(self) -> int: ...
    def bottom(self) -> int: ...


class _Point(Protocol):
    x: int
    y: int


class _Shape(Protocol):
    def parts(self) -> Iterable[_Point]: ...


class DlibLandmarks(LandmarkSource):
    """Detects faces on a copy of bounded size, and finds the points of the largest (of equal ones the leftmost)."""

    model: ClassVar[str]
    points: ClassVar[int]

    def __init__(self, checkpoint: str = "", faces: str = "largest") -> None:
        super().__init__(checkpoint, faces)
        self.file = predictor_file(checkpoint, self.model)

    def landmarks(self, image: Image.Image, row: Row) -> Points | Rejected:
        """Return the points ``[68, 2]`` or ``[5, 2]`` of the face in pixels.

        Rejected are ``no_face`` and, if ``faces`` is ``only``, ``many_faces``. Raises ``CheckpointError`` for another
        predictor.
        """
        boxes = detect_faces(image)
        if not boxes:
            return Rejected("no_face", "dlib finds no face, at single and at double size")
        if self.faces == "only" and len(boxes) > 1:
            return Rejected("many_faces", f"dlib finds {len(boxes)} faces, and align.faces is 'only'")
        points = lay_points(image, choose_face(boxes), self.file)
        if len(points) != self.points:
            raise CheckpointError(
                f"{self.file} lays {len(points)} points, not {self.points}: leave models.landmarks as it is, or choose "
                "another align.landmarks"
            )
        return self.to_points(points)

    def to_points(self, points: Points) -> Points:
        """Convert the predictor's points ``[68, 2]`` or ``[5, 2]`` to those of a landmark source."""
        return points

    def identity(self) -> dict[str, object]:
        """Return the predictor's hash and the version of dlib."""
        return {
            "landmarks_sha256": file_sha256(self.file),
            "detector": f"dlib {import_dlib().__version__}, {LOOK_AT} px",
        }


@LANDMARK_SOURCES.register("dlib-68")
class Dlib68(DlibLandmarks):
    """The 68 points that FFHQ's alignment is defined on."""

    model = "shape_predictor_68_face_landmarks.dat"
    points = 68


@LANDMARK_SOURCES.register("dlib-5")
class Dlib5(DlibLandmarks):
    """Eye corners and the base of the nose; the mouth, and so the square, is estimated from mean proportions."""

    model = "shape_predictor_5_face_landmarks.dat"
    points = 5

    def to_points(self, points: Points) -> Points:
        return complete_five(points)


def complete_five(points: Points) -> Points:
    """Convert dlib's points ``[5, 2]`` (eye corners, nose base) to ``[5, 2]``: eyes, nose and mouth corners."""
    right, left, nose = points[0:2].mean(axis=0), points[2:4].mean(axis=0), points[4]
    eyes = (left + right) / 2
    mouth, aside = eyes + MOUTH_DEPTH * (nose - eyes), MOUTH_WIDTH * (right - left)
    return np.stack([left, right, nose, mouth - aside, mouth + aside])


def detect_faces(image: Image.Image) -> list[Box]:
    """Return the boxes (left, top, right, bottom) of the faces in an RGB image.

    Only if nothing is found the detector runs again at double size. The published scripts always double, which costs
    four times as much and gives false detections.
    """
    longest = max(image.size)
    return _look(image, min(1.0, LOOK_AT / longest)) or _look(image, min(2.0, 2 * LOOK_AT / longest))


def choose_face(boxes: list[Box]) -> Box:
    """Return the largest box; of several equally large ones the leftmost, then the topmost."""
    return min(boxes, key=lambda box: (-(box[2] - box[0]) * (box[3] - box[1]), box[0], box[1]))


def lay_points(image: Image.Image, box: Box, file: str) -> Points:
    """Return the predictor's points ``[68, 2]`` or ``[5, 2]`` for the face in ``box``, in pixels of the image."""
    dlib = import_dlib()
    shape = _predictor(file, file_sha256(file))(np.asarray(image), dlib.rectangle(*(round(edge) for edge in box)))
    return np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)


def predictor_file(checkpoint: str, model: str) -> str:
    """Return ``checkpoint`` if it is a dlib file, else the file in the package ``face_recognition_models``.

    Raises ``CheckpointError``, saying what to install, if dlib or the file is missing.
    """
    import_dlib()
    if checkpoint.endswith(".dat"):
        return checkpoint
    return str(PREDICTORS[model].path())


def import_dlib() -> ModuleType:
    """Import dlib; raises ``CheckpointError``, saying what to install, if it is missing."""
    try:
        import dlib
    except ImportError:
        raise CheckpointError(f"photographs are aligned by dlib, which is missing: run `{INSTALL}`") from None
    return dlib


def _look(image: Image.Image, scale: float) -> list[Box]:
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    copy = image if size == image.size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    found = _detector()(np.asarray(copy), 0)
    across, down = image.width / size[0], image.height / size[1]
    return [(r.left() * across, r.top() * down, r.right() * across, r.bottom() * down) for r in found]


class _Detector:
    """dlib's detector behind a lock, because its scratch space must not be shared by threads."""

    def __init__(self) -> None:
        self._detect: Callable[[np.ndarray, int], Iterable[_Rectangle]] = import_dlib().get_frontal_face_detector()
        self._lock = threading.Lock()

    def __call__(self, pixels: np.ndarray, doublings: int) -> list[_Rectangle]:
        with self._lock:
            return list(self._detect(pixels, doublings))


@cache
def _detector() -> _Detector:
    return _Detector()


@cache
def _predictor(file: str, _sha256: str) -> Callable[[np.ndarray, _Rectangle], _Shape]:
    try:
        predictor: Callable[[np.ndarray, _Rectangle], _Shape] = import_dlib().shape_predictor(file)
    except RuntimeError as error:
        raise CheckpointError(
            f"{file} is no shape predictor of dlib, or damaged ({str(error).splitlines()[0][:100]}): leave "
            "models.landmarks as it is, or name a .dat file that dlib reads"
        ) from None
    return predictor
