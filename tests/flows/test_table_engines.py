"""The page about datasets shows how other engines read shards: its code runs, where they are installed."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from gan_core.runs.run import Run, load_run
from gan_core.storage.shards import read_rows

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()


@pytest.fixture
def demo(gated_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run of the page, ``runs/demo``."""
    shutil.copytree(gated_folder / "runs/a", tmp_path / "runs/demo")
    monkeypatch.chdir(tmp_path)
    return load_run("runs/demo")


def run_example(engine: str) -> dict[str, Any]:
    """Run the page's code that imports an engine, and return its variables."""
    pytest.importorskip(engine)
    codes = [code for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S) if f"import {engine}\n" in code]
    found: dict[str, Any] = {}
    exec("\n".join(codes), found)
    return found


def by_error(run: Run) -> list[tuple[str, float]]:
    rows = [row for url in run.stage_shards("measure") for part in read_rows(url) for row in part]
    return sorted(((row["key"], row["mse/encoded"]) for row in rows if row["status"] == "ok"), key=lambda row: row[1])


def test_duckdb_joins_the_stages_of_a_run(demo: Run, capfd: pytest.CaptureFixture[str]) -> None:
    worst = run_example("duckdb")["worst"]
    assert [row[:2] for row in worst] == by_error(demo)[:-6:-1] and all(row[2] > 0 for row in worst)
    assert "not_an_image" in capfd.readouterr().out


def test_polars_reads_latents_beside_scores(demo: Run) -> None:
    best = run_example("polars")["best"]
    assert [tuple(row) for row in best.select("key", "mse/encoded").rows()] == by_error(demo)[:5]
    latents = {
        row["key"]: row["latent"] for url in demo.stage_shards("encode") for part in read_rows(url) for row in part
    }
    for key, latent in zip(best["key"], best["latent"], strict=True):
        assert (latent.to_numpy() == latents[key]).all()
