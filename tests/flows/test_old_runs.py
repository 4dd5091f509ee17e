"""Runs of version 0.1.0, from before a run knew its recipe: still read, reported and skipped.

``tests/golden/runs`` has three of them with what that version wrote (commit 233f8c7), except the reports: ``edited``
over ``source`` (two steps of tuning, one edit), ``composed`` from it (two transfers of a box) and ``translated``
(super-resolution). The networks had random weights and are not kept.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.inspection import describe
from flows.status import describe_runs, find_failed
from gan_core.errors import ParamsError
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run, recipe_of
from gan_core.report import write_report
from gan_core.runs.run import check_changes, load_run
from gan_core.wording import counted

GOLDEN = Path(__file__).parents[1] / "golden/runs"
RUNS = {
    "edited": ("edit", ("align", "encode", "tune", "edit", "measure"), "2 ok, 1 not_an_image (align)"),
    "composed": ("compose", ("compose",), "2 ok"),
    "translated": ("translate", ("align", "translate"), "2 ok, 1 not_an_image (align)"),
}
SHOWN = {"edited": "smile@+1", "composed": "transfer", "translated": "super-resolution"}
each = pytest.mark.parametrize("name", RUNS)


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of the runs; it is the current folder."""
    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@each
def test_the_recipe_of_an_old_run_follows_from_its_stages(old: Path, name: str) -> None:
    recipe, stages, _ = RUNS[name]
    assert "recipe" not in json.loads((old / name / "run.json").read_text())
    run = load_run(name)
    assert (run.recipe, recipe_of(run).name, run.stages) == (recipe, recipe, stages)


@each
def test_an_old_run_is_inspected_and_its_state_is_told(old: Path, name: str) -> None:
    recipe, stages, rows = RUNS[name]
    run = load_run(name)
    shards = len(run.shards) * len(stages)
    first, *lines = describe_runs(name)
    assert first == f"{name}: {recipe} of {run.source}, {shards} of {counted(shards, 'shard')}, finished"
    assert f"  rows     {rows}" in lines
    first, *lines = describe(name)
    assert first.startswith(f"{name}: {recipe} run over {run.source}, ")
    assert [line.split()[0] for line in lines] == list(stages) and "not finished" not in "".join(lines)


@each
def test_an_old_run_is_reported(old: Path, name: str) -> None:
    page = Path(write_report(name)).read_text()
    assert SHOWN[name] in page and page.count("data:image/png") >= 2
    assert "<h1" in page


def test_failed_rows_of_an_old_run_are_found(old: Path) -> None:
    failed = find_failed(load_run("translated"), "not_an_image")
    assert failed == [(stage, "shard-00000.parquet") for stage in ("align", "translate")]


@each
def test_an_old_run_is_never_redone_in_place_by_another_recipe(old: Path, name: str) -> None:
    run = load_run(name)
    check_changes(run)
    with pytest.raises(ParamsError, match=f"{name} holds a run of the recipe {run.recipe!r}, not 'other'"):
        check_changes(replace(run, recipe="other"), update=True)


QUICK: dict[str, Any] = {"tune.enabled": False, "edits": [{"direction": "smile", "strengths": [1]}]}
TRANSFER = {"operation": "transfer", "boxes": [[0.3, 0.6, 0.4, 0.2]], "count": 1, "group": 2}
OVERRIDES: dict[str, dict[str, Any]] = {
    "edit": QUICK,
    "compose": {"compose.plan": [TRANSFER]},
    "translate": {"translate.align": True, "translate.factors": [4], "translate.variants": []},
}


def age(output: str) -> None:
    """Give ``run.json`` the form of version 0.1.0: no recipe, and all the sections that parameters had then."""
    path, before = Path(output, "run.json"), json.loads((GOLDEN / "edited/run.json").read_text())["params"]
    run = json.loads(path.read_text())
    del run["recipe"]
    run["params"] = {name: run["params"].get(name, section) for name, section in before.items()}
    path.write_text(json.dumps(run, indent=1) + "\n")


def written(output: str) -> dict[str, int]:
    """Return when each shard of a run's stages was written."""
    run = load_run(output)
    return {path: Path(path).stat().st_mtime_ns for stage in run.stages for path in run.stage_shards(stage)}


@pytest.mark.parametrize("recipe", OVERRIDES)
def test_finished_shards_of_an_old_run_are_skipped(
    project: Path, tiny_dataset: str, tiny_models: dict[str, str], recipe: str
) -> None:
    source, overrides = tiny_dataset, OVERRIDES[recipe] | {"translate.encoder": tiny_models["encoder"]}
    if recipe == "compose":
        run_plain(plan_run(tiny_dataset, "edited", overrides=QUICK))
        source = "edited"
    metrics = run_plain(plan_run(source, "out", overrides=overrides, recipe=recipe))
    before = written("out")
    age("out")
    assert load_run("out").recipe == recipe
    assert run_plain(plan_run(source, "out", overrides=overrides, recipe=recipe)) == metrics
    assert written("out") == before
    assert json.loads(Path("out/run.json").read_text())["recipe"] == recipe
