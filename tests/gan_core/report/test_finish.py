"""Summary and report are written for new results, and left alone for the same ones."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gan_core.metrics.base import Summary
from gan_core.recipes.edit import EditRecipe
from gan_core.report.finish import Result, finish_run
from gan_core.runs.run import FINISHED_FILE, Run
from gan_core.runs.summary import load_summary, write_summary

RESULTS: list[Result] = [("measure", "shard-00001.parquet", "b" * 64), ("measure", "shard-00000.parquet", "a" * 64)]


class Counted:
    """Writes another number into the summary each time that it is called."""

    def __init__(self, run: Run) -> None:
        self.run, self.calls = run, 0

    def __call__(self, run: Run) -> dict[str, float]:
        self.calls += 1
        return write_summary(run.output, Summary({"fid/toy-attr/tuned": float(self.calls)}), Counter())


@pytest.fixture
def finished(run_maker: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    run = run_maker(tmp_path)
    counted = Counted(run)
    monkeypatch.setattr(EditRecipe, "summarise", lambda _, run: counted(run))
    assert finish_run(run, RESULTS) == {"fid/toy-attr/tuned": 1.0}
    return counted


def test_the_same_results_are_not_summarised_twice(finished: Counted) -> None:
    report = Path(finished.run.output, "report.html")
    written = report.stat().st_mtime_ns
    assert finish_run(finished.run, reversed(RESULTS)) == {"fid/toy-attr/tuned": 1.0}
    assert (finished.calls, report.stat().st_mtime_ns) == (1, written)


@pytest.mark.parametrize("name", ["summary.json", "report.html", FINISHED_FILE])
@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_text("{")])
def test_what_is_gone_or_damaged_is_written_again(finished: Counted, name: str, harm: Any) -> None:
    harm(Path(finished.run.output, name))
    assert finish_run(finished.run, RESULTS) == {"fid/toy-attr/tuned": 2.0}
    assert load_summary(finished.run.output)["metrics"] == {"fid/toy-attr/tuned": 2.0}
    assert Path(finished.run.output, "report.html").read_text().startswith("<!doctype html>")


def test_other_results_or_parameters_are_summarised(finished: Counted) -> None:
    run, other = finished.run, [RESULTS[0], ("measure", "shard-00000.parquet", "c" * 64)]
    assert finish_run(run, other) == {"fid/toy-attr/tuned": 2.0}
    moved = replace(run, params=run.params.model_copy(update={"edits": []}))
    assert finish_run(moved, other) == {"fid/toy-attr/tuned": 3.0}
