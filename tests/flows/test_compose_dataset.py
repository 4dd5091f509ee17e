"""compose-dataset as a flow: over an encoded run and over seeds, logged, skipped when done, told when wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows import cli
from flows.compose_dataset import compose_dataset
from flows.edit_dataset import edit_dataset
from gan_core.errors import ParamsError
from gan_core.params import load_params
from gan_core.stages.compose import ComposeStage
from gan_core.storage.shards import read_rows

PLAN: list[dict[str, Any]] = [
    {"operation": "panorama", "count": 1, "group": 3},
    {"operation": "interpolate", "count": 2},
]
OVERRIDES = {"compose.plan": PLAN, "compose.rows_per_shard": 2}

pytestmark = pytest.mark.usefixtures("on_server")


def test_an_encoded_run_is_composed_and_logged_once(project: Path, tiny_dataset: str) -> None:
    edit_dataset(tiny_dataset, "encoded", overrides={"tune.enabled": False, "edits": []})
    metrics = compose_dataset("encoded", "out", overrides=OVERRIDES)
    made = [row for i in (0, 1) for rows in read_rows(f"out/compose/shard-0000{i}.parquet") for row in rows]
    assert [row["name"] for row in made] == ["panorama", "interpolate", "interpolate"]
    assert all(source.startswith("portraits/") for row in made for source in row["sources"])
    assert list(metrics) == ["seam/panorama"]
    run = MlflowClient(load_params().track.uri).get_run(json.loads(Path("out/tracking.json").read_text())["run_id"])
    assert run.data.metrics["seam/panorama"] == metrics["seam/panorama"]
    assert "panorama" in run.data.params["compose.plan"]
    assert '<h2 id="panorama">' in Path("out/report.html").read_text()

    before = {path: path.stat().st_mtime_ns for path in Path("out/compose").iterdir()}
    assert compose_dataset("encoded", "out", overrides=OVERRIDES) == metrics
    assert {path: path.stat().st_mtime_ns for path in Path("out/compose").iterdir()} == before


def test_a_run_that_fails_is_in_mlflow_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("spoiled")

    monkeypatch.setattr(ComposeStage, "process", fail)
    with pytest.raises(ValueError, match="spoiled"):
        compose_dataset("seeds:4", "out", overrides=OVERRIDES)
    client = MlflowClient(load_params().track.uri)
    run, *_ = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "ValueError: spoiled")


def test_the_run_of_another_generator_is_refused(project: Path, tiny_dataset: str) -> None:
    edit_dataset(tiny_dataset, "encoded", overrides={"tune.enabled": False, "edits": []})
    run = json.loads(Path("encoded/run.json").read_text())
    run["identities"]["encode"]["generator_sha256"] = "0" * 64
    Path("encoded/run.json").write_text(json.dumps(run))
    with pytest.raises(Exception, match="was encoded for the generator 000000000000"):
        compose_dataset("encoded", "out", overrides=OVERRIDES)


def test_mistakes_end_before_the_server_is_asked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["compose", "seeds:4", "out"])
    assert end.value.code == 2
    assert "compose.plan is empty" in capsys.readouterr().err
    with pytest.raises(ParamsError, match="unknown operation 'panorma'"):
        compose_dataset("seeds:4", "out", overrides={"compose.plan": [{"operation": "panorma", "count": 1}]})
