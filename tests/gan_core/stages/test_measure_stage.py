"""The measure stage over made-up rows, and the summary of a run made of its shards."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.errors import DataError, ParamsError
from gan_core.judges.networks import AttributeRegressor, IdentityEmbedder, PerceptualTrunk
from gan_core.judges.pictures import Pictures
from gan_core.metrics.attributes import side_effect
from gan_core.metrics.base import Columns, RowMetric
from gan_core.metrics.statistics import merge_all, pack
from gan_core.pages.rows import read_rows_of
from gan_core.params import EditParams, MeasureParams, ModelPaths, Params
from gan_core.rows import Row
from gan_core.runs.run import Run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import Stage
from gan_core.runs.summary import load_summary, summarise
from gan_core.stages.measure import MeasureStage
from gan_core.storage.images import encode_png, image_value
from gan_core.storage.receipts import Receipt, read_statistics, receipt_path, write_receipt, write_statistics
from gan_core.storage.shards import IMAGE, ShardWriter, read_rows
from gan_core.storage.urls import hash_file

EDITS = [EditParams(direction="smile", strengths=[1.0]), EditParams(direction="surprise", strengths=[-0.5])]
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "identity": lambda: IdentityEmbedder(8, 16),
    "attributes": lambda: AttributeRegressor(["yaw", "smile"], 8, 6),
    "perceptual": lambda: PerceptualTrunk((8, 8)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelPaths:
    folder = tmp_path_factory.mktemp("models")
    for name, build in NETWORKS.items():
        torch.manual_seed(0)
        network = build()
        card = Card(kind="network", name=name, arguments=network.arguments, made_by="test", licence="-", source="-")
        save_checkpoint(folder / f"{name}.safetensors", network.state_dict(), card)
    return ModelPaths(**{name: str(folder / f"{name}.safetensors") for name in NETWORKS})


def make_stage(models: ModelPaths, tuned: bool = True, batch_size: int = 4) -> MeasureStage:
    return MeasureStage(MeasureParams(swd_images=40), EDITS, models, tuned, batch_size)


def make_rows(count: int) -> list[Row]:
    rng = np.random.default_rng(0)
    smooth = np.repeat(np.repeat(rng.integers(0, 255, (count, 8, 8, 3)), 8, 1), 8, 2)
    columns = {"image": 0, "reconstruction": 30, "tuned": 3, "smile@+1": 20, "surprise@-0.5": 40}
    noisy = {c: np.clip(smooth + rng.normal(0, s, smooth.shape), 0, 255).astype(np.uint8) for c, s in columns.items()}
    cells = {c: [image_value(encode_png(p), "x.png") for p in pixels] for c, pixels in noisy.items()}
    base = {"status": "ok", "reason": "", "stage": "edit"}
    return [{"key": f"key{i}", **base, **{c: cell[i] for c, cell in cells.items()}} for i in range(count)]


def test_scores_every_reconstruction_and_edit(models: ModelPaths) -> None:
    stage, rows = make_stage(models), make_rows(3)
    scores = stage.process(rows)
    assert [field.name for field in stage.fields] == [
        *("mse/encoded", "mse/tuned", "psnr/encoded", "psnr/tuned", "lpips/toy/encoded", "lpips/toy/tuned"),
        *("identity/toy/encoded", "identity/toy/tuned", "identity/toy/smile@+1", "identity/toy/surprise@-0.5"),
        *("smile/smile@+1", "side_effect/smile@+1", "side_effect/surprise@-0.5"),
    ]
    for row in scores:
        assert isinstance(row, dict)
        assert list(row) == [field.name for field in stage.fields]
        assert row["mse/tuned"] < row["mse/encoded"] and row["psnr/tuned"] > row["psnr/encoded"]
        assert 0 < row["lpips/toy/tuned"] < row["lpips/toy/encoded"]


SCORES: dict[str, tuple[dict[str, Any], str]] = {
    "too few": ({"sharp/encoded": np.ones(2)}, r"scores \[2\] for 'sharp/encoded', and \[3\] are needed"),
    "a single one": ({"sharp/encoded": 1.0}, r"scores \[\] for 'sharp/encoded', and \[3\] are needed"),
    "none": ({}, r"no scores for 'sharp/encoded', and \[3\] are needed"),
    "another": (
        {"sharp/encoded": np.ones(3), "sharp/tuned": np.ones(3)},
        r"scores \[3\] for 'sharp/tuned', and its columns do not name it",
    ),
}


@pytest.mark.parametrize("case", SCORES)
def test_a_metric_that_gives_other_scores_than_its_columns_for_each_row_is_named(case: str, models: ModelPaths) -> None:
    scores, said = SCORES[case]

    class Sharp(RowMetric):
        name = "sharp"
        columns = ["sharp/encoded"]  # type: ignore[assignment]  # noqa: RUF012

        def score(self, pictures: Pictures) -> Columns:
            return scores

    stage = make_stage(models)
    stage.metrics["sharp"] = Sharp(stage.setting)
    with pytest.raises(ParamsError, match=rf"^metric 'sharp' \(.*Sharp\) gives {said}: correct its `score`$"):
        stage.process(make_rows(3))


def test_without_tuning_neither_reads_nor_scores_tuned_images(models: ModelPaths) -> None:
    stage = make_stage(models, tuned=False)
    rows = [{name: cell for name, cell in row.items() if name != "tuned"} for row in make_rows(2)]
    assert stage.inputs == ("align", "encode", "edit")
    assert all(isinstance(row, dict) and not any("tuned" in name for name in row) for row in stage.process(rows))


def test_equal_images_have_no_difference(models: ModelPaths) -> None:
    row = make_rows(1)[0]
    same = {name: row["image"] if isinstance(cell, dict) else cell for name, cell in row.items()}
    (scores,) = make_stage(models).process([same])
    assert isinstance(scores, dict)
    assert scores["mse/tuned"] == scores["lpips/toy/tuned"] == scores["smile/smile@+1"] == 0
    assert scores["psnr/tuned"] == 100
    assert scores["identity/toy/smile@+1"] == pytest.approx(1)


def test_statistics_do_not_depend_on_the_batch_or_the_cut(models: ModelPaths) -> None:
    rows = make_rows(8)
    whole, parts = make_stage(models), make_stage(models)
    whole.process(rows)
    pieces = []
    for part in (rows[5:], rows[:1], rows[1:5]):
        parts.process(part)
        pieces.append(parts.statistics())
    expected, merged = whole.statistics(), pack(merge_all(pieces))
    assert merged.keys() == expected.keys()
    for name, value in expected.items():
        assert np.allclose(np.asarray(merged[name], np.float64), np.asarray(value, np.float64), rtol=1e-5, atol=1e-6)
    assert parts.statistics() == {}


def write_input(folder: Path, name: str, columns: list[str], rows: list[Row]) -> None:
    class Source(Stage):
        inputs = ("source",)
        batch_size = 50

        def identity(self) -> Row:
            return {}

        def process(self, given: list[Row]) -> list[Row]:
            return [{column: row[column] for column in columns} for row in given]

    Source.name = name
    stage = Source()
    stage.source, stage.fields = str(folder / "source"), [f for f in FIELDS if f.name in columns]
    for shard in ("shard-00000.parquet", "shard-00001.parquet"):
        run_stage(stage, shard, folder)


FIELDS = [
    __import__("pyarrow").field(n, IMAGE) for n in ("image", "reconstruction", "tuned", "smile@+1", "surprise@-0.5")
]


@pytest.fixture(scope="module")
def run(models: ModelPaths, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    rows = make_rows(40)
    rows[7] |= {"status": "no_face", "reason": "made up"}
    for i in (0, 1):
        with ShardWriter(folder / "source" / f"shard-0000{i}.parquet", FIELDS) as writer:
            writer.write(rows[20 * i : 20 * i + 20])
    write_input(folder, "align", ["image"], rows)
    write_input(folder, "encode", ["reconstruction"], rows)
    write_input(folder, "tune", ["tuned"], rows)
    write_input(folder, "edit", ["smile@+1", "surprise@-0.5"], rows)
    for i in (0, 1):
        run_stage(make_stage(models, batch_size=16), f"shard-0000{i}.parquet", folder)
    return folder


def test_summary_merges_the_shards(run: Path) -> None:
    metrics = summarise(str(run), "measure")
    rows = [row for i in (0, 1) for part in read_rows(run / "measure" / f"shard-0000{i}.parquet") for row in part]
    scored = [row for row in rows if row["status"] == "ok"]
    assert len(rows) == 40 and len(scored) == 39
    assert metrics["mse/tuned"] == pytest.approx(np.mean([row["mse/tuned"] for row in scored]))
    assert metrics["identity/toy/smile@+1"] == pytest.approx(np.mean([row["identity/toy/smile@+1"] for row in scored]))
    assert 0 < metrics["fid/toy-attr/tuned"] < metrics["fid/toy-attr/encoded"]
    assert {"swd/64/tuned", "swd/32/tuned", "swd/16/encoded", "swd/mean/tuned"} <= metrics.keys()
    summary = json.loads((run / "summary.json").read_text())
    assert summary == load_summary(str(run)) == {
        "metrics": metrics, "omitted": {}, "rows": {"no_face": 1, "ok": 39},
    }  # fmt: skip


def age(shard: Path) -> None:
    """Give a measured shard the names that the last release wrote."""
    table, statistics = pq.read_table(shard), read_statistics(shard)
    pq.write_table(table.rename_columns([old_name(name) for name in table.column_names]), shard)
    renamed = {"|".join(map(old_name, name.split("|"))): value for name, value in statistics.items()}
    assert "lpips_toy/tuned" in pq.read_schema(shard).names and "lpips|lpips_toy/tuned|sum" in renamed
    receipt = Receipt.model_validate_json(Path(receipt_path(shard)).read_text())
    hashes = {"output_sha256": hash_file(shard), "statistics_sha256": write_statistics(shard, renamed)}
    write_receipt(shard, receipt.model_copy(update=hashes))


def old_name(name: str) -> str:
    return re.sub("^(lpips|identity)/toy/", r"\1_toy/", name)


def test_a_shard_of_the_last_release_is_skipped_and_summarised_with_those_of_today(
    run: Path, models: ModelPaths, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    metrics = summarise(str(folder), "measure")
    age(folder / "measure/shard-00000.parquet")
    assert run_stage(make_stage(models, batch_size=16), "shard-00000.parquet", folder).reused
    assert summarise(str(folder), "measure") == metrics and "lpips/toy/tuned" in metrics
    of_both = Run(Params(), "", str(folder), {f"shard-0000{i}.parquet": 20 for i in (0, 1)}, {"measure": {}})
    rows = read_rows_of(of_both)
    assert {"lpips/toy/tuned", "identity/toy/smile@+1"} <= rows.values.keys()
    assert {len(values) for values in rows.values.values()} == {39}
    assert rows.ranked_by is not None and rows.ranked_by.name == "identity/toy/tuned"
    summary = json.loads((folder / "summary.json").read_text())
    summary["metrics"] = {old_name(name): value for name, value in summary["metrics"].items()}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert load_summary(str(folder))["metrics"] == metrics


def test_summary_refuses_a_shard_that_was_not_finished(run: Path) -> None:
    receipt = run / "measure" / "shard-00001.parquet.receipt.json"
    kept = receipt.read_bytes()
    receipt.unlink()
    try:
        with pytest.raises(DataError, match="run the measure stage again"):
            summarise(str(run), "measure")
    finally:
        receipt.write_bytes(kept)


def test_too_few_rows_leave_reasons_instead_of_numbers(models: ModelPaths, tmp_path: Path) -> None:
    rows = make_rows(3)
    with ShardWriter(tmp_path / "source" / "shard-00000.parquet", FIELDS) as writer:
        writer.write(rows)
    stage = make_stage(models)
    stage.inputs, stage.source = ("source",), str(tmp_path / "source")
    run_stage(stage, "shard-00000.parquet", tmp_path)
    metrics = summarise(str(tmp_path), "measure")
    assert not any(name.startswith(("fid/", "swd/")) for name in metrics)
    omitted = load_summary(str(tmp_path))["omitted"]
    assert omitted["fid/toy-attr/tuned"] == "needs more than 6 rows, there are 3"
    assert omitted["swd/mean/tuned"] == "needs at least 32 rows in both sets, there are 3 and 3"


def test_rows_that_are_tried_again_count_once(models: ModelPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, rows = make_stage(models), make_rows(4)
    (late,) = [metric for name, metric in stage.metrics.items() if name == "fid"]
    update = late.update

    def fails_for_many(states: Any, pictures: Any, columns: Any) -> None:
        update(states, pictures, columns)
        if len(pictures.keys) > 2:
            raise MemoryError

    monkeypatch.setattr(late, "update", fails_for_many)
    with pytest.raises(MemoryError):
        stage.process(rows)
    for part in (rows[:2], rows[2:]):
        stage.process(part)
    counted = {name: float(value) for name, value in stage.statistics().items() if name.endswith("|n")}
    assert counted and set(counted.values()) == {4.0}


def test_one_attribute_alone_has_no_side_effect() -> None:
    assert side_effect(np.ones((3, 1)), 0).tolist() == [0, 0, 0]
    assert side_effect(np.array([[0.5, -0.25, 0.75]]), 0).tolist() == [0.5]
