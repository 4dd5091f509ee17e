"""The sample dataset: the same bytes each time, files that decode to what was drawn, and small bombs."""

import io
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_core.errors import ParamsError
from gan_core.rows import Row
from gan_core.storage.images import decode_image
from gan_core.storage.receipts import valid_receipt
from gan_core.storage.shards import list_shards, read_rows
from gan_core.toy.params import SampleParams
from gan_core.toy.planted import FORMATS, SPOILED, Frame, write_jpeg
from gan_core.toy.renderer import ATTRIBUTES, FACTOR_NAMES, sample_factors
from gan_core.toy.sample import PLANTED, sample_keys, write_sample

SMALL = SampleParams(rows=22, shards=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample")
    write_sample(path, SMALL)
    return path


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[Row]:
    return [row for shard in list_shards(folder) for part in read_rows(shard) for row in part]


@pytest.fixture
def frame() -> Frame:
    y, x = np.mgrid[:60, :90]
    pixels = np.stack([x * 2, y * 4, 255 - x - y], axis=-1).astype(np.uint8)
    points = np.array([[40.0, 20.0], [60.0, 20.0], [50.0, 30.0], [43.0, 42.0], [57.0, 42.0]])
    return Frame(Image.fromarray(pixels), points)


def file_hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_same_params_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_sample(tmp_path, SMALL)
    assert file_hashes(tmp_path) == file_hashes(folder)


def test_shards_have_valid_receipts(folder: Path) -> None:
    shards = list_shards(folder)
    assert [Path(shard).name for shard in shards] == ["shard-00000.parquet", "shard-00001.parquet"]
    assert [valid_receipt(shard)[0].rows for shard in shards] == [{"ok": 11}, {"ok": 11}]


def test_default_sample_has_its_rows_and_something_bad_in_every_shard() -> None:
    keys = sample_keys(SampleParams())
    assert len(keys) == len(set(keys)) == 128
    assert set(PLANTED) <= set(keys) and sum(key.startswith("formats/") for key in keys) == len(FORMATS)
    assert all(any(key in PLANTED for key in keys[i : i + 32]) for i in range(0, 128, 32))


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"sample.rows is 12: at least 20 are needed"):
        write_sample(tmp_path, SampleParams(rows=12))
    assert not list(tmp_path.iterdir())


def test_truth_is_that_of_the_seed_and_absent_from_bad_rows(rows: list[Row]) -> None:
    for row in rows:
        if row["key"] in PLANTED:
            assert row["seed"] is None and all(row[name] is None for name in ATTRIBUTES)
        else:
            factors = dict(zip(FACTOR_NAMES, sample_factors([row["seed"]])[0].tolist(), strict=True))
            assert {name: row[name] for name in ATTRIBUTES} == {name: factors[name] for name in ATTRIBUTES}


def test_only_the_row_without_a_face_has_no_landmarks(rows: list[Row]) -> None:
    assert [row["key"] for row in rows if row["landmarks"] is None] == ["bad/no-face.png"]
    assert all(row["status"] == "ok" and row["stage"] == "source" for row in rows)


def test_files_are_small(rows: list[Row]) -> None:
    assert max(len(row["image"]["bytes"]) for row in rows) < 100_000


@pytest.mark.parametrize("name", FORMATS)
def test_unusual_files_decode_to_the_picture(name: str, frame: Frame) -> None:
    data = FORMATS[name](frame.image)
    expected = frame.image.convert("L").convert("RGB") if name.startswith("grey") else frame.image
    stored = np.asarray(expected, dtype=np.int16)
    difference = np.abs(np.asarray(decode_image(data, 10_000), dtype=np.int16) - stored)
    lossless = name.endswith(".png") and name != "palette.png"
    assert difference.max() == 0 if lossless else difference.mean() < 4


def test_turned_files_are_really_turned(frame: Frame) -> None:
    with Image.open(io.BytesIO(FORMATS["exif-quarter-turn.jpg"](frame.image))) as image:
        assert image.size == (60, 90)
        assert image.getexif()[0x0112] == 6


def test_spoiled_files_differ_from_the_picture_in_one_thing(frame: Frame) -> None:
    whole = write_jpeg(frame.image)
    assert SPOILED["truncated-jpeg.jpg"].make(frame)[0] == whole[: len(whole) // 2]
    data, landmarks = SPOILED["coincident-eyes.png"].make(frame)
    np.testing.assert_array_equal(decode_image(data, 10_000), frame.image)
    np.testing.assert_array_equal(landmarks[0], landmarks[1])
    np.testing.assert_array_equal(landmarks[2:], frame.landmarks[2:])


def test_making_files_leaves_the_frame_alone(frame: Frame) -> None:
    before = frame.landmarks.copy()
    for spoiled in SPOILED.values():
        spoiled.make(frame)
    np.testing.assert_array_equal(frame.landmarks, before)
