"""A table measured on a run, and runs that follow it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pytest import MonkeyPatch

from gan_core import inversion_trials
from gan_core.errors import DataError, ParamsError
from gan_core.inversion.allocation import write_table
from gan_core.inversion_trials import measure_table
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.runs.run import Run, load_run
from gan_core.storage.shards import list_shards, read_rows
from gan_core.toy.params import SampleParams
from gan_core.toy.sample import write_sample
from tests.gan_core.inversion.test_features import write_features

SMILE = [{"direction": "smile", "strengths": [1]}]
TUNING = {"tune.min_resolution": 32, "measure.metrics": ["mse"], "edits": []}


def made(output: str, **invert: object) -> Run:
    overrides = TUNING | {f"invert.{name}": value for name, value in invert.items()}
    plan = plan_run("source", output, overrides=overrides | ({} if invert else {"tune.enabled": False}))
    run_plain(plan)
    return plan.run


@pytest.fixture
def encoded(project: Path, monkeypatch: MonkeyPatch) -> Run:
    """A run without tuning, and a table that was measured on it with few steps."""
    monkeypatch.setattr(inversion_trials, "STEPS", (0, 1, 2))
    write_sample("source", SampleParams(rows=20, shards=2))
    made("untuned")
    run = load_run("untuned")
    told: list[str] = []
    write_table(run.params.models.inversion, measure_table(run, 6, told.append))
    assert len(told) == 4 and "0 steps" in told[0] and "6 rows; the encoder takes" in told[-1]
    return run


def tuned(run: Run) -> list[dict[str, object]]:
    rows = [row for shard in list_shards(run.path("tune")) for rows in read_rows(shard) for row in rows]
    return [row for row in rows if row["status"] == "ok"]


def test_runs_follow_the_table(encoded: Run) -> None:
    rows = tuned(made("most", budget_s=1e6))
    assert {row["steps"] for row in rows} == {2} and min(row["spent_s"] for row in rows) > 0
    again = tuned(made("again", budget_s=1e6))
    assert again == rows, "the same bytes"
    reached = sorted(row["loss_perceptual"] for row in rows)
    target = reached[len(reached) // 2] * 1.02
    rows = tuned(made("target", target=f"lpips <= {target:.6g}"))
    missed = {row["key"] for row in rows if row["loss_perceptual"] > target}
    assert missed and missed == {
        row["key"] for row in rows if (row["reason"] or "").startswith("missed_target: lpips is")
    }
    assert {row["stop_reason"] for row in rows} >= {"perceptual", "steps"}
    with pytest.raises(ParamsError, match="was measured with another tune"):
        plan_run("source", "other", overrides=TUNING | {"invert.budget_s": 1.0, "tune.lr": 0.5})
    table = json.loads(Path(encoded.params.models.inversion).read_text())
    table["setting"]["encoder_sha256"] = "0" * 64
    Path("others.json").write_text(json.dumps(table))
    with pytest.raises(ParamsError, match=r"others.json was measured with another encoder_sha256"):
        plan_run("source", "other", overrides=TUNING | {"invert.budget_s": 1.0, "models.inversion": "others.json"})
    with pytest.raises(ParamsError, match=r"no way takes less than .* s a row: give at least"):
        plan_run("source", "other", overrides=TUNING | {"invert.budget_s": 1e-9})
    blind = encoded.params.tune.model_copy(update={"perceptual_weight": 0.0})
    with pytest.raises(ParamsError, match=r"tune\.perceptual_weight has to be above 0"):
        measure_table(replace(encoded, params=encoded.params.model_copy(update={"tune": blind})), 4, print)
    with pytest.raises(DataError, match="has 3 encoded rows, and a table needs 4"):
        measure_table(encoded, 3, print)


def widened(run: Run, way: str) -> None:
    """Measure the run's table with more ways, and let ``way`` bring everything at no cost."""
    table = measure_table(run, 6, lambda line: None, ["features", "psp: pti"])
    assert [str(other) for other in table.others] == ["features", "psp: pti"]
    assert [len(other.trials) for other in table.others] == [1, 3]
    perfect = {"seconds": table.trials[-1].seconds + 1, "distances": (0.0,) * len(table.starts)}
    others = [
        other.model_copy(update={"trials": (other.trials[0].model_copy(update=perfect),)})
        if str(other) == way
        else other
        for other in table.others
    ]
    write_table(run.params.models.inversion, table.model_copy(update={"others": tuple(others)}))


@pytest.fixture
def with_networks(encoded: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run, features, and another encoder beside its own: the tests' only one, under its own name."""
    models = encoded.params.models
    folder = tmp_path_factory.mktemp("networks")
    shutil.copy(models.encoder, folder / "encoder.safetensors")
    shutil.copy(models.encoder, folder / "psp.safetensors")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["models"] |= {
        "encoder": str(folder / "encoder.safetensors"),
        "features": str(folder / "features.safetensors"),
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    write_features(folder / "features.safetensors", models.generator)
    made("here")
    return load_run("here")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["features", "psp: pti"])
def test_rows_go_the_way_that_brings_most(with_networks: Run, way: str) -> None:
    widened(with_networks, way)
    plan = plan_run("source", f"by-{way[:3]}", overrides=TUNING | {"invert.budget_s": 1e6, "edits": SMILE})
    run_plain(plan)
    rows = tuned(plan.run)
    assert {row["inverted_by"] for row in rows} == {way} and min(row["spent_s"] for row in rows) > 0.1
    assert {row["steps"] for row in rows} == {1 if way == "features" else 0}
    edited = [row for shard in list_shards(plan.run.path("edit")) for part in read_rows(shard) for row in part]
    assert {row["status"] for row in edited if row["key"] in {row["key"] for row in rows}} == {"ok"}
    if way == "features":
        write_features(Path(with_networks.params.models.features), with_networks.params.models.generator, seed=5)
        with pytest.raises(ParamsError, match=r"was measured with another features_sha256 \(features\)"):
            plan_run("source", "other", overrides=TUNING | {"invert.budget_s": 1e6})
