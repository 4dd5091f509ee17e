"""The tune stage over shards: killed, short of memory, with pictures that can't be fitted."""

import io
import logging
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.inversion import refinement
from gan_core.params import EditParams, ModelPaths, Params, TuneParams
from gan_core.rows import Row
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage
from gan_core.runs.summary import load_summary, summarise
from gan_core.stages.tune import TuneStage
from gan_core.storage.images import decode_image, encode_png, image_value
from gan_core.storage.receipts import Receipt
from gan_core.storage.shards import ShardWriter, read_rows, shard_name
from gan_core.toy.sample import FIELDS, _make_row

SHARDS = [shard_name(0), shard_name(1)]
SMILE = EditParams(direction="smile", strengths=[1])


def unusual(height: int, width: int) -> dict[str, bytes]:
    """One grey, noise, and grey numbers of which one is NaN."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    values = np.full((height, width), 0.5, dtype=np.float32)
    values[height // 2, width // 2] = np.nan
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    return {"constant": encode_png(np.full_like(noise, 128)), "noise": encode_png(noise), "nan": buffer.getvalue()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two shards of portraits, at the end of the first a constant picture, noise, and one with NaN."""
    folder = tmp_path_factory.mktemp("source")
    for index, shard in enumerate(SHARDS):
        rows = [_make_row(f"{index}/{i}.png", 7_000_000 + 10 * index + i) for i in range(3)]
        if index == 0:
            width, height = decode_image(rows[0]["image"]["bytes"], 1 << 20).size
            made = unusual(height, width).items()
            rows += [rows[0] | {"key": key, "image": image_value(data, "")} for key, data in made]
        with ShardWriter(folder / shard, FIELDS) as writer:
            writer.write(rows)
    return str(folder)


@pytest.fixture(scope="module")
def encoded(models: ModelPaths, source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has come as far as the latents."""
    folder = tmp_path_factory.mktemp("run")
    for name in ("align", "encode"):
        stage = build_stage(name, Params(models=models), source)
        for shard in SHARDS:
            run_stage(stage, shard, folder)
    return folder


@pytest.fixture
def output(encoded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(encoded, tmp_path / "run"))


def tuning(models: ModelPaths, **changes: Any) -> TuneStage:
    return TuneStage(TuneParams(**({"steps": 3, "lr": 1e-3, "batch_size": 4} | changes)), models)


def tune(stage: TuneStage, output: Path, progress: Callable[[int], None] | None = None) -> list[Receipt]:
    return [run_stage(stage, shard, output, progress) for shard in SHARDS]


def rows_of(output: Path, stage: str = "tune") -> dict[str, Row]:
    parts = (part for shard in SHARDS for part in read_rows(str(output / stage / shard)))
    return {row["key"]: row for part in parts for row in part}


def test_pictures_that_are_no_portraits_end_with_a_status(models: ModelPaths, output: Path) -> None:
    first, second = tune(tuning(models), output)
    assert (first.rows, second.rows) == ({"ok": 5, "unsupported": 1}, {"ok": 3})
    rows = rows_of(output)
    assert rows["nan"]["status"] == "unsupported" and rows["nan"]["tuned"] is None
    for key in ("constant", "noise"):
        assert rows[key]["stop_reason"] in {"steps", "diverged"}
        assert np.isfinite([rows[key][name] for name in ("loss", "loss_l2", "loss_perceptual")]).all()


def test_the_losses_of_a_row_add_up(models: ModelPaths, output: Path) -> None:
    tune(tuning(models, l2_weight=3.0, perceptual_weight=0.5), output)
    row = rows_of(output)["1/0.png"]
    assert row["loss"] == pytest.approx(3 * row["loss_l2"] + 0.5 * row["loss_perceptual"], rel=1e-5)


def test_a_distance_that_is_not_computed_is_not_0(models: ModelPaths, output: Path) -> None:
    tune(tuning(models, perceptual_weight=0.0), output)
    row = rows_of(output)["1/0.png"]
    assert row["loss"] == pytest.approx(10 * row["loss_l2"], rel=1e-5) and row["loss_perceptual"] is None


def kill_at_row(stage: TuneStage, output: Path, row: int) -> None:
    """Tune in this process, which is killed when so many rows are finished."""
    torch.set_num_threads(1)
    done = 0

    def progress(rows: int) -> None:
        nonlocal done
        done += rows
        if done >= row:
            os.kill(os.getpid(), signal.SIGKILL)

    tune(stage, output, progress)


@pytest.mark.parametrize("row", [2, 5, 8])
def test_killed_and_taken_up_again_it_gives_the_same_hashes(models: ModelPaths, output: Path, row: int) -> None:
    stage = tuning(models)
    child = multiprocessing.get_context("fork").Process(target=kill_at_row, args=(stage, output, row))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    after = tune(stage, output)
    assert after[0].reused is (row == 8) and not after[1].reused
    (output / "tune").rename(output / "resumed")
    undisturbed = tune(stage, output)
    assert [receipt.output_sha256 for receipt in after] == [receipt.output_sha256 for receipt in undisturbed]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_halves_the_batch(
    models: ModelPaths, output: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    sizes: list[int] = []
    original = refinement.tune_pivots

    def hungry(generator: Any, pivots: torch.Tensor, *rest: Any, **more: Any) -> Any:
        sizes.append(len(pivots))
        if len(pivots) > 2:
            raise error("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
        return original(generator, pivots, *rest, **more)

    expected = {key: row["tuned"] for key, row in rows_after(models, output, 4).items()}
    monkeypatch.setattr(refinement, "tune_pivots", hungry)
    assert [receipt.rows.get("oom", 0) for receipt in tune(tuning(models), output)] == [0, 0]
    assert sizes == [4, 2, 2, 1, 2, 1]
    for key, row in rows_of(output).items():
        assert_near(row["tuned"], expected[key])


def rows_after(models: ModelPaths, output: Path, batch_size: int) -> dict[str, Row]:
    """Tune afresh, so many rows at once; put away what was made."""
    tune(tuning(models, batch_size=batch_size), output)
    rows = rows_of(output)
    (output / "tune").rename(output / f"batches-of-{batch_size}")
    return rows


def assert_near(one: Row | None, other: Row | None) -> None:
    """Pictures may differ by one level of grey."""
    if one is None or other is None:
        assert one is other
        return
    a, b = (np.asarray(decode_image(value["bytes"], 1 << 20)).astype(int) for value in (one, other))
    assert np.abs(a - b).max() <= 1


def test_the_batch_that_a_row_was_in_does_not_matter(models: ModelPaths, output: Path) -> None:
    few, many = rows_after(models, output, 1), rows_after(models, output, 4)
    for key, row in few.items():
        assert_near(row["tuned"], many[key]["tuned"])
        assert row["stop_reason"] == many[key]["stop_reason"]
        if row["status"] == "ok":
            assert row["loss"] == pytest.approx(many[key]["loss"], rel=1e-3)


def test_a_row_that_diverges_is_flagged_and_goes_on(models: ModelPaths, output: Path, source: str) -> None:
    run = Params(models=models, edits=[SMILE], tune=TuneParams(steps=3, lr=1e8, batch_size=4))
    for name in ("tune", "edit", "measure"):
        receipts = [run_stage(build_stage(name, run, source), shard, output) for shard in SHARDS]
        assert [receipt.flags for receipt in receipts] == [{"diverged": 5}, {"diverged": 3}]
        assert [receipt.rows["ok"] for receipt in receipts] == [5, 3]
    tuned, encoded = rows_of(output), rows_of(output, "encode")
    for key, row in tuned.items():
        assert_near(row["tuned"], encoded[key]["reconstruction"])
        assert row["delta"] in (b"", None)
    reasons = [row["reason"] for row in rows_of(output, "measure").values() if row["status"] == "ok"]
    assert len(reasons) == 8 and all(reason.startswith("diverged: ") for reason in reasons)
    summarise(str(output), "measure")
    assert load_summary(str(output))["flags"] == {"diverged": 8}


def test_progress_comes_image_by_image(models: ModelPaths, output: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    with caplog.at_level(logging.INFO, logger="gan_core.stages"):
        tune(tuning(models), output, calls.append)
    assert calls == [1] * 9
    said = [record.getMessage() for record in caplog.records if record.name == "gan_core.stages.tune"]
    assert len(said) == 8 and said[0].startswith("0/0.png: 3 steps, loss ")
