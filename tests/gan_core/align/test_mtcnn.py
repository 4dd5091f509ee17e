"""MTCNN's cascade with random weights everywhere, and against ``facenet-pytorch`` where it is installed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.align import mtcnn_landmarks
from gan_core.align.mtcnn import Cascade, Faces, apart, corrected, pyramid, squared
from gan_core.align.mtcnn_landmarks import FILES, MtcnnLandmarks, find_faces, largest, load_cascade
from gan_core.errors import CheckpointError
from gan_core.rows import Rejected
from tests.gan_core.photographs import portrait, require
from tests.torchvision_shim import declare_operators


@pytest.fixture
def cascade() -> Cascade:
    torch.manual_seed(0)
    return Cascade().eval().requires_grad_(False)


def seen(boxes: list[list[float]]) -> Faces:
    """Return faces with these boxes whose points lie at their left edges."""
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return Faces(corners, np.ones(len(corners)), np.repeat(corners[:, None, :2], 5, axis=1))


def test_the_pyramid_ends_where_the_image_is_one_cell() -> None:
    assert pyramid(20, 400) == [0.6] and pyramid(19, 400) == [] and pyramid(1, 1) == []
    scales = pyramid(480, 640)
    assert scales[0] == 0.6 and scales[-1] * 480 >= 12 > scales[-1] * 480 * 0.709
    np.testing.assert_allclose(np.divide(scales[1:], scales[:-1]), 0.709)


def test_boxes_that_overlap_a_better_one_go_but_only_in_the_same_image() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 11, 11], [50, 50, 60, 60], [0, 0, 10, 10]])
    scores, owners = torch.tensor([0.8, 0.9, 0.7, 0.6]), torch.tensor([0, 0, 0, 1])
    assert apart(boxes, scores, owners, 0.5).tolist() == [1, 2, 3]
    assert apart(boxes, scores, owners, 0.9).tolist() == [1, 0, 2, 3]
    within = torch.tensor([[0.0, 0, 99, 99], [0, 0, 9, 9]])
    assert apart(within, scores[:2], owners[:2], 0.7).tolist() == [1, 0]
    assert apart(within, scores[:2], owners[:2], 0.7, of_smaller=True).tolist() == [1]
    assert apart(boxes[:0], scores[:0], owners[:0], 0.5).tolist() == []


def test_boxes_become_squares_and_are_corrected_in_shares() -> None:
    assert squared(torch.tensor([[10.0, 0, 20, 30]])).tolist() == [[0, 0, 30, 30]]
    moved = corrected(torch.tensor([[10.0, 10, 19, 29]]), torch.tensor([[0.1, -0.1, 0.2, 0.0]]))
    torch.testing.assert_close(moved, torch.tensor([[11.0, 8, 21, 29]]))


def test_an_image_has_the_same_faces_to_the_last_bit_in_any_company(
    cascade: Cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan_core.align.mtcnn.THRESHOLDS", (0.5, 0.3, 0.3))  # random networks score about a half
    draw = torch.Generator().manual_seed(1)
    images = [torch.rand(3, *size, generator=draw) * 255 for size in ((60, 80), (48, 52), (60, 80), (5, 9), (60, 80))]
    alone = [cascade([image])[0] for image in images]
    assert sum(len(faces.boxes) > 0 for faces in alone) == 4 and not len(alone[3].boxes)
    for order in ([0, 1, 2, 3, 4], [4, 3, 1, 0], [3]):
        for faces, place in zip(cascade([images[i] for i in order]), order, strict=True):
            assert faces.boxes.shape == (len(faces.scores), 4) and faces.points.shape == (len(faces.scores), 5, 2)
            for one, other in zip(alone[place], faces, strict=True):
                np.testing.assert_array_equal(one, other)
    assert cascade([]) == []


@pytest.mark.parametrize("size", [(1, 1), (11, 300), (24, 24)])
def test_pictures_too_small_for_a_face_have_none(size: tuple[int, int], cascade: Cascade) -> None:
    (found,) = find_faces(cascade, [Image.new("RGB", size)])
    assert found.boxes.shape == (0, 4) and found.points.shape == (0, 5, 2)


def test_faces_of_a_reduced_copy_are_in_pixels_of_the_image() -> None:
    looks: Any = _Looks([[[9.5, 19.5, 29.5, 39.5]]])
    (found,) = find_faces(looks, [Image.new("RGB", (1280, 640))], look_at=640)
    np.testing.assert_allclose(found.boxes, [[19.5, 39.5, 59.5, 79.5]])
    np.testing.assert_allclose(found.points[0, 0], [19.5, 39.5])


def test_a_panorama_is_reduced_as_a_whole_would_be_but_channel_by_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 300, 3), dtype=np.uint8)
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(whole, (9, 64), mode="bilinear", antialias=True)[0]
    reduce, sizes = torch.nn.functional.interpolate, []

    def watched(images: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        sizes.append(images.numel())
        return reduce(images, *rest, **more)

    monkeypatch.setattr(torch.nn.functional, "interpolate", watched)
    looks: Any = _Looks([[]], shape=(3, 9, 64), expected=expected)
    find_faces(looks, [Image.fromarray(pixels)], look_at=64)
    assert max(sizes) <= 40 * 300


class _Looks:
    """Stands for the cascade: gives prepared boxes."""

    def __init__(
        self,
        answers: list[list[list[float]]],
        shape: tuple[int, ...] = (3, 320, 640),
        expected: torch.Tensor | None = None,
    ) -> None:
        self.answers, self.shape, self.expected = answers, shape, expected

    def parameters(self) -> Any:
        return iter([torch.zeros(1)])

    def __call__(self, images: list[torch.Tensor]) -> list[Faces]:
        assert [image.shape for image in images] == [self.shape]
        assert self.expected is None or torch.equal(images[0], self.expected)
        return [seen(self.answers.pop(0))]


def test_none_and_several_are_statuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtcnn_landmarks, "FILES", {})
    small, large, left = [0.0, 0, 10, 10], [50.0, 0, 90, 40], [5.0, 9, 45, 49]
    assert largest(np.array([small, large, left])) == 2
    for faces, boxes, status in (("largest", [], "no_face"), ("only", [small, large], "many_faces")):
        rejected = MtcnnLandmarks(faces=faces).choose(seen(boxes))
        assert isinstance(rejected, Rejected) and rejected.status == status
    chosen = MtcnnLandmarks().choose(seen([small, large]))
    assert not isinstance(chosen, Rejected) and chosen[1][0].tolist() == [50, 0]


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {name: replace(file, module="no_such_package") for name, file in FILES.items()}
    monkeypatch.setattr(mtcnn_landmarks, "FILES", missing)
    with pytest.raises(CheckpointError, match=r"facenet-pytorch, .* `pip install 'edit-dataset\[photos\]'`") as raised:
        MtcnnLandmarks()
    assert "\n" not in str(raised.value)


def test_the_portrait_has_its_landmarks_where_they_are() -> None:
    require("facenet_pytorch")
    source = MtcnnLandmarks()
    points = source.landmarks(portrait(), {})
    assert not isinstance(points, Rejected)
    np.testing.assert_allclose(points, [[205, 102], [247, 104], [225, 129], [202, 139], [245, 142]], atol=1.5)
    assert set(source.identity()["landmarks_sha256"]) == {"pnet", "rnet", "onet"}  # type: ignore[call-overload]


@pytest.mark.parametrize("size", [(512, 512), (200, 150)])
def test_boxes_and_points_are_the_packages_own(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    require("facenet_pytorch")
    declare_operators()
    import facenet_pytorch
    from facenet_pytorch.models.utils import detect_face

    monkeypatch.setattr(detect_face, "batched_nms", without_overlaps)
    image = portrait().resize(size)
    theirs = [getattr(facenet_pytorch, name)().eval() for name in ("PNet", "RNet", "ONet")]
    with torch.no_grad():
        boxes, points = detect_face.detect_face(image, 20, *theirs, [0.6, 0.7, 0.7], 0.709, "cpu")
    (ours,) = load_cascade()(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float())
    assert len(ours.boxes) == len(boxes[0]) > 0
    np.testing.assert_allclose(np.column_stack([ours.boxes, ours.scores]), np.float64(boxes[0]), atol=1e-3)
    np.testing.assert_allclose(ours.points, np.float64(points[0]), atol=1e-3)


def without_overlaps(boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, most: float) -> torch.Tensor:
    """Do what torchvision's ``batched_nms`` does, which its wheel has no compiled code for on this torch."""
    keep: list[int] = []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    for i in scores.argsort(descending=True, stable=True).tolist():
        sides = torch.minimum(boxes[i, 2:], boxes[keep, 2:]) - torch.maximum(boxes[i, :2], boxes[keep, :2])
        shared = sides.clamp_min(0).prod(1)
        overlaps = shared / (areas[i] + areas[keep] - shared)
        if not ((overlaps > most) & (groups[keep] == groups[i])).any():
            keep.append(i)
    return torch.tensor(keep, dtype=torch.long)
