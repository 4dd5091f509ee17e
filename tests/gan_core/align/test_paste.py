"""Edited faces back in their photographs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_core.align.crop import align_face
from gan_core.align.paste import feathered, paste_face
from gan_core.align.quad import FaceSquare
from gan_core.params import PasteParams
from gan_core.stages.paste import PasteStage
from gan_core.storage.images import decode_image, encode_png


def smooth_photo(width: int = 160, height: int = 120) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    channels = [128 + 100 * np.sin(x / 17 + k) * np.cos(y / 13 - k) for k in range(3)]
    return Image.fromarray(np.stack(channels, 2).round().astype(np.uint8))


def outside(photo: Image.Image, square: FaceSquare) -> np.ndarray:
    y, x = np.mgrid[: photo.height, : photo.width]
    corners = square.corners
    across, down = corners[3] - corners[0], corners[1] - corners[0]
    place = [((x - corners[0, 0]) * v[0] + (y - corners[0, 1]) * v[1]) / (v @ v) for v in (across, down)]
    return (np.minimum(*place) < 0) | (np.maximum(*place) > 1)


@pytest.mark.parametrize("size", [64, 200])
@pytest.mark.parametrize(
    "square",
    [
        FaceSquare(np.array([80.0, 60.0]), np.array([32.0, 0.0])),
        FaceSquare(np.array([83.3, 58.7]), np.array([30.0, 17.0])),
        FaceSquare(np.array([75.0, 61.5]), np.array([-3.0, 35.0])),
    ],
)
def test_an_unedited_face_changes_nothing_much(square: FaceSquare, size: int) -> None:
    photo = smooth_photo()
    face = align_face(photo, square, size, 256)
    pasted = paste_face(photo, face, square.corners)
    difference = np.abs(np.asarray(pasted).astype(int) - np.asarray(photo))
    assert difference.max() <= 6 and difference.mean() < 0.7
    assert not difference[outside(photo, square)].any()


def test_an_edit_shows_inside_and_fades_to_the_edge() -> None:
    photo, square = smooth_photo(), FaceSquare(np.array([80.0, 60.0]), np.array([40.0, 10.0]))
    pasted = np.asarray(paste_face(photo, Image.new("RGB", (64, 64), (250, 0, 250)), square.corners, 0.2))
    assert pasted[60, 80].tolist() == [250, 0, 250]
    assert np.array_equal(pasted[outside(photo, square)], np.asarray(photo)[outside(photo, square)])
    edge = np.round(square.corners.mean(axis=0) + square.half * 0.97).astype(int)
    assert np.abs(pasted[edge[1], edge[0]].astype(int) - np.asarray(photo)[edge[1], edge[0]]).max() < 40


def test_the_mask_is_a_smooth_step() -> None:
    at = np.array([-0.1, 0.0, 0.05, 0.1, 0.5, 0.95, 1.0, 1.2])
    np.testing.assert_allclose(feathered(at, np.full(8, 0.5), 0.1), [0, 0, 0.5, 1, 1, 0.5, 0, 0], atol=1e-12)
    np.testing.assert_array_equal(feathered(at, np.full(8, 0.5), 0), [0, 0, 1, 1, 1, 1, 0, 0])


def test_a_square_outside_of_the_photograph_leaves_it_alone() -> None:
    photo, square = smooth_photo(), FaceSquare(np.array([-400.0, 50.0]), np.array([30.0, 0.0]))
    assert paste_face(photo, Image.new("RGB", (8, 8)), square.corners).tobytes() == photo.tobytes()


def test_the_stage_gives_a_column_for_each_edit(tmp_path: Path) -> None:
    photo, square = smooth_photo(), FaceSquare(np.array([80.0, 60.0]), np.array([30.0, 5.0]))
    stage = PasteStage("x", PasteParams(), ["smile@-1", "smile@+1"], 10**6)
    face = encode_png(np.zeros((64, 64, 3), np.uint8))
    row = {"key": "a", "source/image": {"bytes": encode_png(np.asarray(photo))}, "quad": square.corners.tolist()}
    row |= {column: {"bytes": face} for column in stage.columns}
    (pasted,) = stage.process([row])
    assert isinstance(pasted, dict)
    assert list(pasted) == [field.name for field in stage.fields] == [f"{c}/pasted" for c in stage.columns]
    assert decode_image(pasted["smile@+1/pasted"]["bytes"], 10**6).size == photo.size
