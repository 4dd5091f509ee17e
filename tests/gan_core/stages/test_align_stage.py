"""The sample dataset through the align stage: every row comes out, with the face or with the planted reason."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_core.align.landmarks import NetworkLandmarks
from gan_core.align.quad import face_square
from gan_core.params import AlignParams
from gan_core.rows import Rejected, Row
from gan_core.runs.run_stage import run_stage
from gan_core.stages.align import AlignStage
from gan_core.storage.images import decode_image, encode_png, image_value, to_uint8
from gan_core.storage.shards import read_rows
from gan_core.toy.params import SampleParams
from gan_core.toy.renderer import render, sample_factors
from gan_core.toy.sample import PLANTED, write_sample

SAMPLE = SampleParams(rows=32, shards=2)
FACE = np.array([[40.0, 50.0], [60.0, 50.0], [50.0, 60.0], [43.0, 72.0], [57.0, 72.0]])


def read_folder(folder: Path) -> list[Row]:
    return [row for path in sorted(folder.glob("*.parquet")) for rows in read_rows(path) for row in rows]


def align_sample(folder: Path, params: SampleParams) -> tuple[list[Row], list[Row]]:
    write_sample(folder / "source", params)
    for path in sorted((folder / "source").glob("*.parquet")):
        run_stage(AlignStage(str(folder / "source"), AlignParams()), path.name, folder)
    return read_folder(folder / "source"), read_folder(folder / "align")


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], list[Row]]:
    return align_sample(tmp_path_factory.mktemp("run"), SAMPLE)


def render_truth(rows: list[Row]) -> list[Image.Image]:
    images = to_uint8(render(sample_factors([row["seed"] for row in rows]), 64).image)
    pictures = [Image.fromarray(image) for image in images]
    return [p.convert("L").convert("RGB") if "grey" in r["key"] else p for p, r in zip(pictures, rows, strict=True)]


def psnr(one: Image.Image, other: Image.Image) -> float:
    return float(-10 * np.log10(np.mean(((np.float64(one) - np.float64(other)) / 255) ** 2)))


def check_ledger(source: list[Row], aligned: list[Row]) -> None:
    assert [row["key"] for row in aligned] == [row["key"] for row in source]
    assert {row["key"]: row["status"] for row in aligned if row["status"] != "ok"} == PLANTED
    assert all(row["reason"] and row["image"] is None for row in aligned if row["status"] != "ok")


def check_crops(source: list[Row], aligned: list[Row]) -> None:
    crops = [decode_image((row["image"] or {}).get("bytes") or b"", 4096) for row in aligned if row["status"] == "ok"]
    assert {crop.size for crop in crops} == {(64, 64)}
    truth = render_truth([row for row in source if row["key"] not in PLANTED])
    scores = [psnr(crop, portrait) for crop, portrait in zip(crops, truth, strict=True)]
    assert min(scores) > 28  # half a pixel of misplacement costs 9 dB


def test_every_row_comes_out_and_planted_ones_say_why(aligned: tuple[list[Row], list[Row]]) -> None:
    assert len(aligned[0]) == SAMPLE.rows
    check_ledger(*aligned)


def test_crops_are_the_aligned_render(aligned: tuple[list[Row], list[Row]]) -> None:
    check_crops(*aligned)


def test_landmarks_and_quad_stay_in_the_row(aligned: tuple[list[Row], list[Row]]) -> None:
    for before, after in zip(*aligned, strict=True):
        if after["status"] == "ok":
            np.testing.assert_array_equal(after["landmarks"], before["landmarks"])
            np.testing.assert_allclose(after["quad"], face_square(before["landmarks"]).corners, atol=1e-4)


@pytest.mark.slow
def test_the_whole_sample(tmp_path: Path) -> None:
    source, aligned = align_sample(tmp_path, SampleParams())
    check_ledger(source, aligned)
    check_crops(source, aligned)
    assert Counter(row["status"] for row in aligned)["ok"] == 128 - len(PLANTED) == 116


@pytest.fixture
def rows() -> list[Row]:
    pixels = np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    image = image_value(encode_png(pixels), "a.png")
    faces = [FACE - 8, FACE, None, FACE - 60]
    return [{"key": f"{i}", "image": image, "landmarks": face} for i, face in enumerate(faces)]


def test_rows_do_not_depend_on_their_batch(rows: list[Row]) -> None:
    stage = AlignStage("", AlignParams())
    together, alone = stage.process(rows), [stage.process([row])[0] for row in rows]
    assert [getattr(result, "status", "ok") for result in together] == ["ok", "ok", "no_face", "out_of_frame"]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Rejected) == isinstance(other, Rejected)
        assert one == other if isinstance(one, Rejected) else one["image"] == other["image"]


@pytest.mark.parametrize("image", [None, {"bytes": None, "path": "a.png"}, {"bytes": b"", "path": "a.png"}])
def test_missing_bytes_are_empty(image: dict[str, bytes] | None) -> None:
    (result,) = AlignStage("", AlignParams()).process([{"key": "a", "image": image, "landmarks": FACE}])
    assert isinstance(result, Rejected) and result.status == "empty"


def test_params_decide_size_padding_and_source(rows: list[Row]) -> None:
    def crop(**params: object) -> np.ndarray:
        (result,) = AlignStage("", AlignParams(**params)).process(rows[:1])
        return np.asarray(decode_image(result["image"]["bytes"], 10**6))

    assert crop(size=32).shape == (32, 32, 3)
    assert not np.array_equal(crop(), crop(enable_padding=False))  # the square comes within 4 px of the left border
    assert not np.array_equal(crop(), crop(landmarks="centre"))


def test_virtual_landmarks_are_not_stored(rows: list[Row]) -> None:
    (result,) = AlignStage("", AlignParams(landmarks="centre")).process(rows[:1])
    assert result["landmarks"] is None
    np.testing.assert_allclose(result["quad"], [[-0.5, -0.5], [-0.5, 99.5], [99.5, 99.5], [99.5, -0.5]], atol=1e-4)


def test_identity_holds_params_and_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NetworkLandmarks, "identity", lambda self: {"landmarks_sha256": self.checkpoint})
    plain, network = AlignStage("a", AlignParams()), AlignStage("a", AlignParams(landmarks="toy-net"), "net")
    sizes: dict[str, Any] = {"size": 64, "transform_size": 256}
    assert plain.identity() == {"params": AlignParams(**sizes).model_dump()}
    named = AlignParams(landmarks="toy-net", **sizes).model_dump()
    assert network.identity() == {"params": named, "landmarks_sha256": "net"}
