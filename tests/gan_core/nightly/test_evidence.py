"""Nights of a real encoder: one with noise on its weights is seen, and an unchanged one costs and says nothing."""

from itertools import product
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pyarrow as pa
import pytest
import torch

from gan_core.checkpoints.files import load_checkpoint, save_checkpoint
from gan_core.errors import DataError
from gan_core.nightly import evidence
from gan_core.nightly.evidence import drop_rows, gather
from gan_core.nightly.history import Entry, add_night, find_reference
from gan_core.nightly.speed import Speed
from gan_core.params import Params
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.runs.run import Run
from gan_core.stages.encode import EncodeStage
from gan_core.storage.atomic import write_bytes
from gan_core.storage.images import encode_png, image_value
from gan_core.storage.shards import IMAGE, ShardWriter
from gan_core.storage.urls import names_in
from tests.conftest import write_dataset

REAL = Path(__file__).parents[3] / "data/models"


def spoil(path: Path, into: Path, share: float) -> str:
    """Write a checkpoint with noise on its weights, of ``share`` of the deviation of each tensor."""
    stored = load_checkpoint(path)
    torch.manual_seed(0)
    tensors = sorted(stored.model.items())  # a file gives its tensors in any order
    noisy = {n: t + share * t.std() * torch.randn(t.shape) if t.numel() > 1 else t for n, t in tensors}
    save_checkpoint(into, noisy, stored.card)
    return str(into)


def encoded(dataset: str, output: Path, encoder: str, metrics: list[str]) -> Run:
    """Run an encoder over a dataset and measure it."""
    chosen = {"models.encoder": encoder, "tune.enabled": False, "edits": [], "measure.metrics": metrics}
    plan = plan_run(dataset, str(output), overrides=chosen, update=True)
    run_plain(plan)
    return plan.run


@pytest.mark.slow
def test_five_percent_of_noise_on_the_weights_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "time_stage", lambda *_: Speed(busy="not timed here"))
    monkeypatch.chdir(REAL.parents[1])
    worse = spoil(REAL / "psp.safetensors", tmp_path / "worse.safetensors", 0.05)
    history: list[Entry] = []
    found = {}
    for night, encoder in (("2026-11-01", str(REAL / "psp.safetensors")), ("2026-11-02", worse)):
        run = encoded("data/sample", tmp_path / "out", encoder, ["mse", "lpips", "identity"])
        told = gather(run, find_reference(history, ("psp", "sample"), night))
        entry = Entry(date=night, encoder="psp", dataset="sample", measured=told.measured)
        entry = entry.model_copy(update={"rows": told.rows, "reference": told.reference})
        history, found[night] = add_night(history, [entry])
    assert found["2026-11-01"] == []
    assert {finding.metric.split("/")[0] for finding in found["2026-11-02"]} == {"mse", "lpips", "identity"}
    assert all(finding.worse for finding in found["2026-11-02"])


def test_rows_are_kept_until_nothing_is_compared_with_them(
    project: Path, tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "time_stage", lambda *_: Speed(busy="not timed here"))
    dataset = write_dataset(project / "ds", (12,))
    first = gather(encoded(dataset, project / "out", tiny_models["encoder"], ["mse"]))
    assert first.reference == "" and first.measured["mse/encoded"].change is None
    with monkeypatch.context() as patch:
        patch.setattr(evidence, "_keep", None)  # the same night again reads no row
        again = gather(encoded(dataset, project / "out", tiny_models["encoder"], ["mse"]), first.rows)
    assert (again.reference, again.measured["mse/encoded"].change) == (first.rows, 0)
    worse = spoil(Path(tiny_models["encoder"]), project / "worse.safetensors", 0.5)
    second = gather(encoded(dataset, project / "out", worse, ["mse"]), first.rows)
    assert second.reference == first.rows != second.rows
    assert second.measured["mse/encoded"].change and second.measured["mse/encoded"].rows == 11
    assert first.measured["rejected"] == second.measured["rejected"]
    assert (first.measured["rejected"].value, first.measured["rejected"].rows) == (1, 12)
    drop_rows(str(project / "out"), {second.rows})
    assert gather(encoded(dataset, project / "out", worse, ["mse"]), first.rows).reference == ""


def test_an_encoder_that_fails_for_every_row_is_no_night(
    project: Path, tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "time_stage", lambda *_: Speed(busy="not timed here"))
    stored = load_checkpoint(tiny_models["encoder"])
    dead = {name: t * 1e30 if t.is_floating_point() else t for name, t in stored.model.items()}  # it overflows
    save_checkpoint(project / "dead.safetensors", dead, stored.card)
    run = encoded(write_dataset(project / "ds", (4,)), project / "out", str(project / "dead.safetensors"), ["mse"])
    with pytest.raises(DataError, match=r"no row of .* could be measured .*bad_latent"):
        gather(run)


def test_only_rows_of_that_folder_are_dropped(tmp_path: Path) -> None:
    """A name such as ``night[1]`` is no pattern, which would be that of ``night1``."""
    old, new, mine = f"rows-{'0' * 16}.npz", f"rows-{'f' * 16}.npz", "rows-of-mine.npz"
    for folder, name in product(("night[1]", "night1"), (old, new, mine)):
        write_bytes(tmp_path / folder / name, b"rows")
    drop_rows(str(tmp_path / "night[1]"), {"f" * 64})
    assert sorted(names_in(tmp_path / "night[1]")) == [new, mine]
    assert sorted(names_in(tmp_path / "night1")) == [old, new, mine]


@pytest.mark.parametrize("columns", [["image"], ["image", "encoder_input"]])
def test_timed_rows_have_what_an_encoder_with_a_judge_reads(tmp_path: Path, columns: list[str]) -> None:
    with ShardWriter(tmp_path / "align/shard-00000.parquet", [pa.field(name, IMAGE) for name in columns]) as writer:
        row = {"key": "a", "status": "ok", "reason": "", "stage": "align"}
        writer.write([row | {name: image_value(encode_png(np.zeros((8, 8, 3), np.uint8)), "") for name in columns}])
    run = Run(Params(), "ds", str(tmp_path), {"shard-00000.parquet": 1}, {"align": {}, "encode": {}})
    judged = EncodeStage.__new__(EncodeStage)
    judged.judge = MagicMock()
    (row,) = evidence._timed_rows(run)
    assert judged.load(row).keys() >= set(columns)


def test_another_network_of_a_distance_is_another_night(
    project: Path, tiny_models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "time_stage", lambda *_: Speed(busy="not timed here"))
    dataset = write_dataset(project / "ds", (12,))
    first = gather(encoded(dataset, project / "out", tiny_models["encoder"], ["mse", "swd"]))
    run = encoded(dataset, project / "out", tiny_models["encoder"], ["mse", "swd"])
    assert gather(run).rows == first.rows
    chosen = {"tune.enabled": False, "edits": [], "measure.metrics": ["mse", "swd"], "measure.swd_images": 8}
    other = plan_run(dataset, run.output, overrides=chosen | {"models.encoder": tiny_models["encoder"]}, update=True)
    run_plain(other)
    assert gather(other.run).rows != first.rows
