"""Landmark sources: the contract for each registered name, then what each of them promises."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gan_core.align.crop import align_face
from gan_core.align.landmarks import (
    LANDMARK_SOURCES,
    CentreSquare,
    ColumnLandmarks,
    LandmarkSource,
    Letterbox,
    NetworkLandmarks,
    window,
)
from gan_core.align.quad import check_landmarks, face_square
from gan_core.checkpoints.files import Card, file_sha256, save_checkpoint
from gan_core.errors import DataError
from gan_core.judges.networks import NETWORKS
from gan_core.loading import model_tensors
from gan_core.recipes.base import plan_run
from gan_core.rows import Rejected
from gan_core.storage.shards import CROP_FIELDS
from tests.conftest import write_dataset

FIVE = [[20.0, 30.0], [40.0, 30.0], [30.0, 40.0], [23.0, 52.0], [37.0, 52.0]]


class ScriptedNetwork(nn.Module):
    """Gives prepared answers, one a look, and keeps what it was shown."""

    def __init__(self, *answers: tuple[float, float]) -> None:
        super().__init__()
        self.answers = list(answers)
        self.shown: list[Tensor] = []

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        self.shown.append(frames)
        presence, shift = self.answers[len(self.shown) - 1]
        points = torch.tensor([[0.45, 0.45], [0.55, 0.45], [0.5, 0.5], [0.47, 0.55], [0.53, 0.55]])
        return torch.tensor([presence]), points[None] + shift


class FixedNetwork(nn.Module):
    """Sees a face, with its eyes at one place of the frame, where the frame's centre is bright."""

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        points = torch.tensor([[0.25, 0.5], [0.75, 0.5], [0.5, 0.6], [0.4, 0.7], [0.6, 0.7]])
        return frames[:, 0, 32, 32], points.expand(len(frames), 5, 2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "landmarks.safetensors"
    network = NETWORKS.get("landmarks")(width=8)
    card = Card(kind="network", name="landmarks", arguments=network.arguments, made_by="", licence="", source="")
    save_checkpoint(path, model_tensors(network), card)
    return str(path)


def picture(width: int, height: int, value: int = 200) -> Image.Image:
    return Image.new("RGB", (width, height), (value, value, value))


@pytest.mark.parametrize("name", ["centre", "columns", "toy-net"])
def test_contract(name: str, checkpoint: str) -> None:
    source: LandmarkSource = LANDMARK_SOURCES.get(name)(checkpoint)
    image, row = picture(90, 60), {"key": "a", "landmarks": FIVE}
    first, second = source.landmarks(image, row), source.landmarks(image, row)
    if isinstance(first, Rejected):
        assert first == second and first.status == "no_face"
    else:
        assert first.shape in ((5, 2), (68, 2)) and first.dtype == np.float64
        np.testing.assert_array_equal(first, second)
    assert source.identity() == LANDMARK_SOURCES.get(name)(checkpoint).identity()


@pytest.mark.parametrize("count", [5, 68])
def test_columns_reads_lists_and_arrays(count: int) -> None:
    points = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    for cell in (points, points.tolist()):
        np.testing.assert_array_equal(ColumnLandmarks().landmarks(picture(9, 9), {"landmarks": cell}), points)


@pytest.mark.parametrize(
    ("cell", "status"),
    [(None, "no_face"), ([[1.0, 2.0]] * 6, "degenerate_landmarks"), ([1.0] * 10, "degenerate_landmarks"),
     ([[1.0, 2.0], None, *FIVE[2:]], "degenerate_landmarks"), ("five", "degenerate_landmarks")],
)  # fmt: skip
def test_columns_says_why_there_are_no_landmarks(cell: Any, status: str) -> None:
    rejected = ColumnLandmarks().landmarks(picture(9, 9), {"landmarks": cell})
    assert isinstance(rejected, Rejected) and rejected.status == status


def test_columns_turns_missing_numbers_into_degenerate_landmarks() -> None:
    points = ColumnLandmarks().landmarks(picture(9, 9), {"landmarks": [[None, 1.0], *FIVE[1:]]})
    rejected = check_landmarks(points)
    assert rejected is not None and rejected.reason == "not a finite position: left eye"


def test_columns_names_the_missing_column() -> None:
    with pytest.raises(DataError, match=r"no column 'landmarks'.*'mtcnn' \(photographs\), 'toy-net' or 'centre'"):
        ColumnLandmarks().landmarks(picture(9, 9), {"key": "a"})


def test_a_shard_without_landmarks_is_refused_before_a_run_begins(project: Path) -> None:
    write_dataset(project / "ds", (2, 2))
    _, second = sorted((project / "ds").glob("*.parquet"))
    pq.write_table(pq.read_table(second).drop_columns(["landmarks"]), second)
    with pytest.raises(DataError, match=f"{second.name} has no column 'landmarks'"):
        plan_run("ds", "out", overrides={"align.landmarks": "columns"})
    assert not (project / "out").exists()


def test_landmarks_of_cropped_pictures_are_refused_before_a_run_begins(project: Path) -> None:
    write_dataset(project / "ds", (2,))
    (shard,) = (project / "ds").glob("*.parquet")
    landmarks, quad = CROP_FIELDS
    table = pq.read_table(shard)
    assert table.schema.field("landmarks").type == landmarks.type
    pq.write_table(table.append_column(quad, pa.array([np.ones((4, 2)).tolist()] * 2, quad.type)), shard)
    with pytest.raises(DataError, match=f"landmarks in .*{shard.name} are in pixels of the pictures that its own were"):
        plan_run("ds", "out", overrides={"align.landmarks": "columns"})
    assert not (project / "out").exists()
    plan_run("ds", "out", overrides={"align.landmarks": "centre"})


@pytest.mark.parametrize(("width", "height"), [(64, 64), (101, 64), (64, 90)])
def test_centre_crops_the_largest_square_exactly(width: int, height: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    square = face_square(CentreSquare().landmarks(Image.fromarray(pixels), {}))
    assert square.side == pytest.approx(64)
    crop = align_face(Image.fromarray(pixels), square, 64, 64, enable_padding=not CentreSquare.virtual)
    x, y = (width - 64) / 2, (height - 64) / 2
    if x == int(x):
        np.testing.assert_array_equal(np.asarray(crop), pixels[int(y) : int(y) + 64, int(x) : int(x) + 64])
    else:
        between = (np.float64(pixels[:, int(x) : int(x) + 64]) + pixels[:, int(x) + 1 : int(x) + 65]) / 2
        assert np.abs(np.float64(crop) - between).max() <= 1


def test_network_points_are_in_pixels_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    source = NetworkLandmarks()
    monkeypatch.setitem(vars(source), "network", FixedNetwork())
    _, points = source._look(picture(128, 64))
    np.testing.assert_allclose(points[:2], [[31.5, 31.5], [95.5, 31.5]])  # 16 and 48 of 64, twice as large, bars cut


def test_a_second_look_at_the_face_counts_where_it_sees_one(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(640, 640)
    once, twice = ScriptedNetwork((1.0, 0.0), (-1.0, 0.1)), ScriptedNetwork((1.0, 0.0), (1.0, 0.1))
    found = []
    for network in (once, twice):
        source = NetworkLandmarks()
        monkeypatch.setitem(vars(source), "network", network)
        found.append(source.landmarks(image, {}))
        assert len(network.shown) == 2
    left, top, right, bottom = window(found[0])
    assert right - left == bottom - top == 2 * round(1.3 * 64)
    np.testing.assert_allclose(found[0].mean(axis=0), [319.5, 319.5], atol=1e-4)
    shifted = found[0].mean(axis=0) + 0.1 * (right - left)
    np.testing.assert_allclose(found[1].mean(axis=0), shifted, atol=1.0)


def test_a_second_look_may_reach_beyond_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    source, network = NetworkLandmarks(), ScriptedNetwork((1.0, 0.42), (1.0, 0.0))
    monkeypatch.setitem(vars(source), "network", network)
    assert np.isfinite(source.landmarks(picture(90, 60), {})).all()
    assert network.shown[1][0, :, 60, 60].tolist() == [-1, -1, -1]


def test_network_below_zero_is_no_face(monkeypatch: pytest.MonkeyPatch) -> None:
    source = NetworkLandmarks()
    monkeypatch.setitem(vars(source), "network", FixedNetwork())
    rejected = source.landmarks(picture(128, 64, value=0), {})
    assert isinstance(rejected, Rejected) and rejected.status == "no_face" and "-1.00" in rejected.reason


def test_network_identity_is_the_checkpoint(checkpoint: str) -> None:
    assert NetworkLandmarks(checkpoint).identity() == {"landmarks_sha256": file_sha256(checkpoint)}


@pytest.mark.parametrize(("width", "height"), [(200, 120), (120, 200), (7, 3000), (64, 64)])
def test_letterbox_shows_the_whole_image_and_finds_it_again(width: int, height: int) -> None:
    box = Letterbox.fit(width, height)
    frame = np.asarray(box.apply(picture(width, height)))
    assert frame.shape == (64, 64, 3) and max(box.size) == 64
    lit = np.argwhere(frame[..., 0] == 200)
    assert len(lit) == box.size[0] * box.size[1]
    corners = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])
    edges = np.array([lit.min(axis=0), lit.max(axis=0) + 1])[:, ::-1] / 64
    np.testing.assert_allclose(box.restore(edges), corners, atol=1e-9)
