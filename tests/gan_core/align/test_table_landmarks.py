"""Landmarks that come beside a dataset: CelebA's list, FFHQ's JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_core.align.quad import face_square
from gan_core.align.table_landmarks import TableLandmarks
from gan_core.errors import DataError
from gan_core.rows import Rejected
from tests.golden.fill import golden

FIVE = [69, 109, 106, 113, 77, 142, 73, 152, 108, 154]
IMAGE = Image.new("RGB", (178, 218))
HEAD = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list_landmarks_celeba.txt", f"1\n{HEAD}\n000001.jpg  {'  '.join(map(str, FIVE))}\n"),
        ("list_landmarks_celeba.csv", f"image_id,{HEAD.replace(' ', ',')}\n000001.jpg,{','.join(map(str, FIVE))}\n"),
    ],
)
def test_celebas_five_points(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    source = TableLandmarks(str(tmp_path / name))
    for key in ("000001.jpg", "img_celeba/000001.jpg"):
        np.testing.assert_array_equal(source.landmarks(IMAGE, {"key": key}), np.reshape(FIVE, (5, 2)))
    missing = source.landmarks(IMAGE, {"key": "000002.jpg"})
    assert isinstance(missing, Rejected) and missing.status == "no_face" and name in missing.reason


def test_ffhqs_sixty_eight_points_give_the_published_square(tmp_path: Path) -> None:
    expected, _ = golden("ffhq-alignment")
    points = expected["interior__landmarks"].tolist()
    entry = {
        "in_the_wild": {"file_path": "in-the-wild-images/00000/00005.png", "face_landmarks": points},
        "image": {"file_path": "images1024x1024/00000/00005.png", "face_landmarks": (np.array(points) / 2).tolist()},
    }
    path = tmp_path / "ffhq-dataset-v2.json"
    path.write_text(json.dumps({"5": entry}))
    source = TableLandmarks(str(path))
    for key in ("00005.png", "in-the-wild-images/00000/00005.png"):
        square = face_square(source.landmarks(IMAGE, {"key": key}))
        np.testing.assert_allclose(square.corners, expected["interior__quad"], atol=1e-9)
    aligned = source.landmarks(IMAGE, {"key": "images1024x1024/00000/00005.png"})
    np.testing.assert_allclose(aligned, np.array(points) / 2)
    assert source.identity() == TableLandmarks(str(path)).identity()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [("x.json", "{", "neither CelebA"), ("x.json", '{"0": 3}', "neither CelebA"), ("x.txt", "a b\n", "lists no")],
)
def test_other_files_are_refused(name: str, text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=says):
        TableLandmarks(str(tmp_path / name)).landmarks(IMAGE, {"key": "a"})
    with pytest.raises(DataError, match="no table of landmarks"):
        TableLandmarks(str(tmp_path / "none.txt")).landmarks(IMAGE, {"key": "a"})
