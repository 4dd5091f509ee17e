"""A folder of mixed files, as photographs come: import and alignment account for every one of them."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import photograph
from gan_core.align.quad import face_square
from gan_core.importers import import_dataset
from gan_core.params import AlignParams
from gan_core.rows import Row
from gan_core.runs.run_stage import run_stage
from gan_core.stages.align import AlignStage
from gan_core.storage.images import decode_image
from gan_core.storage.shards import list_shards, read_rows
from gan_core.storage.urls import base_name

PARAMS = AlignParams(landmarks="dlib-68", size=128, transform_size=256, max_pixels=4_000_000)
COUNT = 200


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    pytest.importorskip("dlib", reason="dlib is not installed: pip install '.[align]'")
    data = pytest.importorskip("skimage.data", reason="the portrait comes with scikit-image, which is not installed")
    return Image.fromarray(data.astronaut()).crop((90, 10, 350, 270))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(portrait: Image.Image) -> bytes:
    """Return a JPEG that lies on its side, with the EXIF tag that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(portrait.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)


def several(portrait: Image.Image) -> bytes:
    """Return a picture of two heads, the larger one on the right."""
    wide = Image.new("RGB", (480, 270), (90, 90, 90))
    wide.paste(portrait.resize((180, 180)), (0, 40))
    wide.paste(portrait, (210, 5))
    return encoded(wide, "JPEG", quality=95)


def kinds(portrait: Image.Image) -> dict[str, tuple[bytes, str]]:
    """Return each kind of file by the name's beginning: its bytes, and the status that it must end with."""
    plain, empty = encoded(portrait, "JPEG", quality=95), Image.new("RGB", (200, 150), (120, 130, 90))
    return {
        "plain.jpg": (plain, "ok"),
        "turned.jpg": (turned(portrait), "ok"),
        "several.jpg": (several(portrait), "ok"),
        "cmyk.jpg": (encoded(portrait.convert("CMYK"), "JPEG", quality=95), "ok"),
        "animated.gif": (
            encoded(portrait, "GIF", save_all=True, append_images=[empty.resize(portrait.size)], duration=50),
            "ok",
        ),
        "nobody.png": (encoded(empty, "PNG"), "no_face"),
        "cut.jpg": (plain[: len(plain) // 2], "truncated"),
        "huge.png": (encoded(Image.new("1", (3000, 2000)), "PNG"), "too_many_pixels"),
        "page.jpg": (b"<!doctype html><html>not found</html>", "not_an_image"),
        "empty.png": (b"", "empty"),
    }


def aligned(source: Path, work: Path, params: AlignParams) -> list[Row]:
    import_dataset(str(source), str(work / "data"), 100)
    rows: list[Row] = []
    for shard in list_shards(str(work / "data")):
        stage = AlignStage(str(work / "data"), params, batch_size=8)
        run_stage(stage, base_name(shard), str(work / "run"))
        rows += [row for part in read_rows(f"{work}/run/align/{base_name(shard)}") for row in part]
    return rows


def write_folder(folder: Path, portrait: Image.Image) -> dict[str, str]:
    """Write ``COUNT`` files of all kinds in turn; the status that each must end with, by its key."""
    folder.mkdir()
    made = list(kinds(portrait).items())
    expected: dict[str, str] = {}
    for index in range(COUNT):
        name, (data, status) = made[index % len(made)]
        key = f"{index:03}-{name}"
        (folder / key).write_bytes(data)
        expected[key] = status
    return expected


def test_two_hundred_mixed_files_are_all_accounted_for_without_a_detector(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((260, 260), Image.Resampling.BICUBIC)
    expected = write_folder(tmp_path / "files", picture)
    rows = aligned(tmp_path / "files", tmp_path, AlignParams(landmarks="centre", size=32, max_pixels=4_000_000))
    seen = {key: "ok" if status == "no_face" else status for key, status in expected.items()}
    assert {row["key"]: row["status"] for row in rows} == seen and len(rows) == COUNT


@pytest.mark.slow
def test_two_hundred_mixed_files_are_all_accounted_for(portrait: Image.Image, tmp_path: Path) -> None:
    expected = write_folder(tmp_path / "files", portrait)
    rows = aligned(tmp_path / "files", tmp_path, PARAMS)
    assert {row["key"]: row["status"] for row in rows} == expected and len(rows) == COUNT
    assert Counter(row["status"] for row in rows)["ok"] == COUNT / 2
    crops = {row["key"][4:]: decode_image(row["image"]["bytes"], 10**6) for row in rows if row["status"] == "ok"}
    for name in ("turned.jpg", "cmyk.jpg", "animated.gif", "several.jpg"):
        difference = np.abs(np.asarray(crops[name], np.float64) - np.asarray(crops["plain.jpg"])).mean()
        assert difference < 16, name  # the same face: turned, in other colours, beside a smaller one


@pytest.mark.parametrize("landmarks", ["dlib-68", "dlib-5"])
def test_the_portrait_comes_back_into_its_photograph(landmarks: str, portrait: Image.Image, tmp_path: Path) -> None:
    steps = photograph.there_and_back(photograph.portrait(), tmp_path, landmarks)
    found = photograph.numbers(steps)
    assert found["psnr_inside"] > 35  # the crop is as large as its square here, so little sharpness is lost
    assert found["changed_outside"] == 0 and found["changed_inside"] > 0.8
    points = np.array(list(steps.row["landmarks"]))
    np.testing.assert_allclose(face_square(points).corners, steps.quad, atol=0.01)
    assert steps.face.size == (256, 256) and photograph.side_by_side(steps).size == (1048, 256)
