"""dlib's landmarks, where dlib is installed; the rules around it everywhere."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_core.align import dlib_landmarks
from gan_core.align.dlib_landmarks import Dlib5, Dlib68, choose_face, complete_five, detect_faces
from gan_core.align.quad import face_square, five_points
from gan_core.errors import CheckpointError
from gan_core.params import AlignParams
from gan_core.rows import Rejected
from gan_core.stages.align import AlignStage
from gan_core.storage.images import decode_image, encode_png


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    """The public-domain portrait (NASA) that scikit-image carries."""
    pytest.importorskip("dlib", reason="dlib is not installed: pip install '.[align]'")
    data = pytest.importorskip("skimage.data", reason="the portrait comes with scikit-image, which is not installed")
    return Image.fromarray(data.astronaut())


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let the detector give prepared answers (left, top, right, bottom in its copy), and keep the copies' sizes."""
    answers: list[Any] = []
    shown: list[tuple[int, int]] = []

    def detect(pixels: np.ndarray, _: int) -> list[Any]:
        shown.append((pixels.shape[1], pixels.shape[0]))
        sides = ("left", "top", "right", "bottom")
        found = answers.pop(0) if answers else []
        return [SimpleNamespace(**{s: (lambda v=v: v) for s, v in zip(sides, box, strict=True)}) for box in found]

    monkeypatch.setattr(dlib_landmarks, "_detector", lambda: detect)
    answers.append(shown)
    return answers


def test_the_largest_face_counts_then_the_leftmost() -> None:
    small, left, right = (0, 0, 10, 10), (5, 9, 25, 29), (40, 0, 60, 20)
    assert choose_face([small, right, left]) == choose_face([left, right, small]) == left


def test_the_detector_sees_a_bounded_copy_and_looks_twice_only_if_it_found_nothing(boxes: list[Any]) -> None:
    shown = boxes.pop()
    boxes.append([(10, 20, 110, 120)])
    assert detect_faces(Image.new("RGB", (2560, 1280))) == [(40, 80, 440, 480)] and shown == [(640, 320)]
    boxes += [[], [(10, 20, 110, 120)]]
    assert detect_faces(Image.new("RGB", (2560, 1280))) == [(20, 40, 220, 240)]
    assert shown[1:] == [(640, 320), (1280, 640)]
    assert detect_faces(Image.new("RGB", (100, 60))) == [] and shown[3:] == [(100, 60), (200, 120)]


def test_none_and_several_are_statuses(boxes: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    boxes.pop()
    monkeypatch.setattr(dlib_landmarks, "predictor_file", lambda *_: "x.dat")
    monkeypatch.setattr(dlib_landmarks, "lay_points", lambda image, box, file: np.full((68, 2), box[0]))
    two = [(0, 0, 10, 10), (50, 0, 90, 40)]
    for faces, answer, status in (("largest", [], "no_face"), ("only", two, "many_faces")):
        boxes += [answer, answer]
        rejected = Dlib68(faces=faces).landmarks(Image.new("RGB", (100, 100)), {})
        assert isinstance(rejected, Rejected) and rejected.status == status
        boxes.clear()
    boxes.append(two)
    assert Dlib68(faces="largest").landmarks(Image.new("RGB", (100, 100)), {})[0, 0] == 50


def test_without_dlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(CheckpointError, match=r"pip install 'edit-dataset\[align\]'"):
        Dlib68()


def test_another_or_a_damaged_predictor_is_one_line(
    boxes: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Dlib(SimpleNamespace):
        rectangle = staticmethod(lambda *edges: edges)

        @staticmethod
        def shape_predictor(file: str) -> Any:
            if file == "junk.dat":
                raise RuntimeError("Error deserializing object of type int\n   while deserializing a matrix")
            count = len(Path(file).read_bytes())
            return lambda *_: SimpleNamespace(parts=lambda: [SimpleNamespace(x=1, y=2)] * count)

    monkeypatch.setattr(dlib_landmarks, "import_dlib", Dlib)
    dlib_landmarks._predictor.cache_clear()
    monkeypatch.chdir(tmp_path)
    Path("junk.dat").write_bytes(b"")
    Path("five.dat").write_bytes(b"12345")
    told = {
        "junk.dat": r"junk\.dat is no shape predictor of dlib, or damaged \(Error deserializing object of type int\): ",
        "five.dat": r"five\.dat lays 5 points, not 68: ",
    }
    for file, said in told.items():
        boxes[:] = [[(0, 0, 10, 10)]]
        with pytest.raises(CheckpointError, match=said) as raised:
            Dlib68(file).landmarks(Image.new("RGB", (20, 20)), {})
        assert "\n" not in str(raised.value)
    boxes[:] = [[(0, 0, 10, 10)]]
    assert len(Dlib5("five.dat").landmarks(Image.new("RGB", (20, 20)), {})) == 5  # type: ignore[arg-type]
    Path("five.dat").write_bytes(b"123456")  # another file in its place
    boxes[:] = [[(0, 0, 10, 10)]]
    with pytest.raises(CheckpointError, match=r"five\.dat lays 6 points, not 5: "):
        Dlib5("five.dat").landmarks(Image.new("RGB", (20, 20)), {})
    dlib_landmarks._predictor.cache_clear()


def test_five_points_get_a_mouth_below_the_nose() -> None:
    points = complete_five(np.array([[70.0, 30], [60, 30], [30, 30], [40, 30], [50, 50]]))
    assert points[:3].tolist() == [[35, 30], [65, 30], [50, 50]]
    assert points[3:, 1].tolist() == [56, 56] and points[3:].mean(axis=0).tolist() == [50, 56]


def test_the_portrait_has_its_landmarks_where_they_are(astronaut: Image.Image) -> None:
    source = Dlib68()
    points = source.landmarks(astronaut, {})
    assert not isinstance(points, Rejected)
    expected = [[203, 101], [247, 104], [225, 127], [201, 140], [245, 141]]
    np.testing.assert_allclose(five_points(points), expected, atol=3)
    np.testing.assert_array_equal(source.landmarks(astronaut, {}), points)
    assert "dlib" in source.identity()["detector"]


@pytest.mark.parametrize("factor", [0.5, 3])
def test_its_square_is_the_same_at_other_sizes(factor: float, astronaut: Image.Image) -> None:
    points = Dlib68().landmarks(astronaut, {})
    size = tuple(round(length * factor) for length in astronaut.size)
    again = Dlib68().landmarks(astronaut.resize(size, Image.Resampling.LANCZOS), {})
    assert not isinstance(again, Rejected) and not isinstance(points, Rejected)
    one, other = face_square(points), face_square(again)
    assert abs(other.side / factor / one.side - 1) < 0.06
    assert np.abs(other.centre / factor - one.centre).max() < 0.04 * one.side


def test_five_points_give_about_the_square_of_sixty_eight(astronaut: Image.Image) -> None:
    one, other = (face_square(source().landmarks(astronaut, {})) for source in (Dlib68, Dlib5))
    assert np.abs(one.corners - other.corners).max() < 0.06 * one.side


@pytest.mark.parametrize("landmarks", ["dlib-68", "dlib-5"])
def test_photographs_go_through_the_stage(landmarks: str, astronaut: Image.Image, tmp_path: Path) -> None:
    stage = AlignStage("", AlignParams(landmarks=landmarks, size=128, transform_size=256))
    empty = encode_png(np.full((300, 300, 3), 128, np.uint8))
    rows = [
        {"key": name, "image": {"bytes": data}}
        for name, data in (("a", encode_png(np.asarray(astronaut))), ("b", empty))
    ]
    face, nothing = stage.process(rows)
    assert isinstance(face, dict) and decode_image(face["image"]["bytes"], 10**6).size == (128, 128)
    assert isinstance(nothing, Rejected) and nothing.status == "no_face"
