"""Whole runs that store their pictures in another format: what follows from it, and who reads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_core.importers import import_dataset
from gan_core.params import check_params
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_params
from gan_core.report import write_report
from gan_core.rows import Row
from gan_core.runs.run import Run
from gan_core.storage.images import decode_image
from gan_core.storage.receipts import require_receipt
from gan_core.storage.shards import ShardWriter, read_rows, shard_name
from gan_core.toy.sample import FIELDS, _make_row

PICTURES = {
    "align": "image",
    "encode": "reconstruction",
    "tune": "tuned",
    "edit": "smile@+1",
    "paste": "smile@+1/pasted",
}
MAGIC = {"png": b"\x89PNG", "webp": b"RIFF", "jpeg": b"\xff\xd8\xff"}
ENDINGS = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, str]) -> dict[str, Run]:
    """The same rows in every format, with an edit that refers to a row of the dataset."""
    folder = tmp_path_factory.mktemp("formats")
    with ShardWriter(folder / "data" / shard_name(0), FIELDS) as writer:
        writer.write([_make_row(f"made/{seed}.png", seed) for seed in (7_000_000, 7_000_001)])
    return {name: make(folder, tiny_models, "made/7000000.png", name) for name in MAGIC}


def make(folder: Path, models: dict[str, str], key: str, name: str) -> Run:
    values: dict[str, Any] = {
        "run": {"workers": 1},
        "models": models,
        "tune": {"steps": 1},
        "edits": [{"direction": "smile", "strengths": [1]}, {"kind": "mix", "references": [key], "latent_mask": [5]}],
        "paste": {"enabled": True},
        "measure": {"metrics": ["mse"]},
        "pictures": {"format": name, "quality": 90},
    }
    plan = plan_params(check_params(values), str(folder / "data"), str(folder / name))
    run_plain(plan)
    return plan.run


def rows_of(run: Run, stage: str) -> list[Row]:
    rows = [row for url in run.stage_shards(stage) for part in read_rows(url) for row in part]
    return [row for row in rows if row["status"] == "ok"]


def pixels(cell: Row) -> np.ndarray:
    return np.asarray(decode_image(cell["bytes"], 1 << 24))


@pytest.mark.parametrize("name", MAGIC)
@pytest.mark.parametrize("stage", PICTURES)
def test_every_stage_stores_the_format_and_says_so(runs: dict[str, Run], name: str, stage: str) -> None:
    run = runs[name]
    cells = [row[PICTURES[stage]] for row in rows_of(run, stage)]
    assert len(cells) == 2 and all(cell["bytes"].startswith(MAGIC[name]) for cell in cells)
    assert all(cell["path"].endswith(ENDINGS[name]) for cell in cells)
    said = {"png": None, "webp": "webp", "jpeg": "jpeg 90"}[name]
    receipt = require_receipt(run.shard(stage, run.shards[0]), "")
    planned = json.loads(Path(run.output, "run.json").read_text())["identities"][stage]
    assert receipt.identity.get("stored") == planned.get("stored") == said


def test_without_loss_the_format_changes_no_pixel_latent_or_score(runs: dict[str, Run]) -> None:
    for stage, column in PICTURES.items():
        for png, webp in zip(rows_of(runs["png"], stage), rows_of(runs["webp"], stage), strict=True):
            assert (pixels(png[column]) == pixels(webp[column])).all()
    for png, webp in zip(rows_of(runs["png"], "encode"), rows_of(runs["webp"], "encode"), strict=True):
        assert (png["latent"] == webp["latent"]).all()
    assert rows_of(runs["png"], "measure") == rows_of(runs["webp"], "measure")


def test_jpeg_is_close_to_what_was_drawn(runs: dict[str, Run]) -> None:
    for png, jpeg in zip(rows_of(runs["png"], "align"), rows_of(runs["jpeg"], "align"), strict=True):
        assert np.abs(pixels(png["image"]).astype(int) - pixels(jpeg["image"])).mean() < 3
    assert "stored" not in runs["jpeg"].identities["measure"]


@pytest.mark.parametrize("name", ["webp", "jpeg"])
def test_report_and_import_read_it(runs: dict[str, Run], name: str, tmp_path: Path) -> None:
    assert Path(write_report(runs[name].output)).read_text().count("data:image/") >= 2 * len(PICTURES)
    import_dataset(runs[name].path("align"), str(tmp_path / "again"))
    (shard,) = tmp_path.glob("again/*.parquet")
    taken = [row for part in read_rows(shard) for row in part if row["status"] == "ok"]
    assert [row["image"]["bytes"] for row in taken] == [row["image"]["bytes"] for row in rows_of(runs[name], "align")]
