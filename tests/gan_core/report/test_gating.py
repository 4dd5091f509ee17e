"""Gates judge the finished rows of a run: its ledger, its summary and its page agree on which rows pass."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gan_core.errors import ParamsError
from gan_core.gates import Gate
from gan_core.params import check_params
from gan_core.recipes.edit import EditRecipe
from gan_core.report.finish import finish_run
from gan_core.report.gates_page import nearest_rows
from gan_core.report.gating import judge, nearest_to_failing
from gan_core.report.report import page_of
from gan_core.runs.run import Run
from gan_core.runs.summary import describe_gates, gate_numbers, load_summary
from gan_core.storage.shards import ShardWriter
from tasks.pictures import score_table

GATES = ["identity/smile@+1 >= 0.85", "lpips <= q0.8", "side_effect <= 0.09"]


@pytest.fixture(scope="module")
def finished(run_maker: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of 12 rows and 4 that were rejected, with three gates."""
    run = run_maker(tmp_path_factory.mktemp("gated"), seeds_each=6, gates=GATES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gan_core.recipes.outliers.flag_outliers", lambda _: None)
        finish_run(run, [])
    return run


@pytest.fixture
def gated(finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy of that run."""
    monkeypatch.setattr("gan_core.recipes.outliers.flag_outliers", lambda _: None)
    shutil.copytree(finished.output, tmp_path / "run")
    return replace(finished, output=str(tmp_path / "run"))


def with_gates(run: Run, *gates: str) -> Run:
    """The same run with other gates."""
    return replace(run, params=run.params.model_copy(update={"gates": [Gate.parse(gate) for gate in gates]}))


def ledger(run: Run) -> pd.DataFrame:
    """What ``gates.parquet`` has."""
    return pq.read_table(run.path("gates.parquet")).to_pandas()


def scores(run: Run) -> pd.DataFrame:
    """The rows of the measure stage, independently of what is tested."""
    return pd.concat([pq.read_table(url).to_pandas() for url in run.stage_shards("measure")], ignore_index=True)


def test_the_ledger_keeps_all_rows_with_the_names_of_the_gates_and_totals_agree(gated: Run) -> None:
    rows, measured = ledger(gated), scores(gated)
    assert rows["key"].tolist() == measured["key"].tolist() and rows["status"].tolist() == measured["status"].tolist()
    ok = measured["status"] == "ok"
    sides = measured[[name for name in measured if name.startswith("side_effect/")]].max(axis=1)
    limit = np.sort(measured["lpips/toy/tuned"][ok])[9]  # 0.8 of 12 rows, rounded up to whole ones
    expected = {
        GATES[0]: ok & (measured["identity/toy/smile@+1"] < 0.85),
        GATES[1]: ok & (measured["lpips/toy/tuned"] > limit),
        GATES[2]: ok & (sides > 0.09),
    }
    for gate, fails in expected.items():
        assert [gate in failed for failed in rows["failed"]] == fails.tolist(), gate
        assert 0 < fails.sum() < ok.sum()
    assert (rows["passed"] == (ok & (rows["failed"].map(len) == 0))).all()
    told = load_summary(gated.output)["gates"]
    assert (told["passed"], told["failed"]) == (rows["passed"].sum(), ok.sum() - rows["passed"].sum())
    assert told["rejected"] == {"no_face": 2, "truncated": 2}
    assert told["passed"] + told["failed"] + sum(told["rejected"].values()) == len(rows) == 16
    assert {each["gate"]: each["failed"] for each in told["each"]} == {g: f.sum() for g, f in expected.items()}
    alone = [(rows["failed"].map(list) == pd.Series([[gate]] * 16)).sum() for gate in GATES]
    assert [each["failed_alone"] for each in told["each"]] == alone


def test_the_ledger_says_why_and_numbers_and_lines_say_how_many(gated: Run) -> None:
    rows, summary = ledger(gated), load_summary(gated.output)
    fails = rows[rows["failed"].map(lambda failed: GATES[0] in failed)].iloc[0]
    assert re.search(r"identity/smile@\+1 >= 0\.85: identity/toy/smile@\+1 is 0\.[78]\d+", fails["why"])
    limited = rows[rows["failed"].map(lambda failed: GATES[1] in failed)].iloc[0]
    limit = summary["gates"]["each"][1]["limit"]
    assert f"lpips/toy/tuned is 0.04{limited['why'].partition(' is 0.04')[2][:2]}" in limited["why"]
    assert f"(limit {limit:.4g})" in limited["why"]
    numbers, told = gate_numbers(summary), summary["gates"]
    assert (numbers["gates/passed"], numbers["gates/failed"]) == (told["passed"], told["failed"])
    assert numbers[f"gates/failed/{GATES[1]}"] == 2 and numbers[f"gates/limit/{GATES[1]}"] == limit
    assert next(describe_gates(summary)) == f"gates    {told['passed']} of 12 finished rows pass all 3"
    assert f"  lpips <= q0.8 (limit {limit:.4g}): 2 of 12 fail" in list(describe_gates(summary))
    assert list(describe_gates({"metrics": {}})) == [] and gate_numbers({"metrics": {}}) == {}


def test_a_row_without_the_score_fails_as_not_measured(gated: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def scored(self: EditRecipe, run: Run, shard: str) -> Any:
        for part in whole(self, run, shard):
            yield part.assign(**{"side_effect/yaw@+1": np.where(part.index == 0, np.nan, np.inf)})

    whole = EditRecipe.scored
    monkeypatch.setattr(EditRecipe, "scored", scored)
    run = with_gates(gated, "side_effect <= 5", "side_effect <= q0.5")
    finish_run(run, [])
    each = load_summary(run.output)["gates"]["each"]
    assert [(e["failed"], e["not_measured"], e["limit"]) for e in each] == [(12, 12, 5.0), (12, 12, None)]
    assert set(ledger(run)["why"]) == {
        "",
        "; ".join(f"{g}: side_effect/yaw@+1 is not measured" for g in run.params.gates),
    }
    assert not ledger(run)["passed"].any()
    assert "12 of 12 fail, 12 of them not measured" in list(describe_gates(load_summary(run.output)))[1]
    assert page_of(run).sections[-2].anchor == "gates"


def test_other_gates_are_judged_anew_and_without_gates_the_ledger_goes(
    gated: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan_core.report.finish.write_report", lambda run: Path(run.path("report.html")).write_text(""))
    before = {url: Path(url).read_bytes() for url in gated.stage_shards("measure")}
    other = with_gates(gated, "psnr >= 1")
    assert finish_run(other, [])["gates/passed"] == 12
    assert {url: Path(url).read_bytes() for url in before} == before
    Path(other.path("gates.parquet")).write_bytes(b"damaged")
    finish_run(other, [])
    assert ledger(other)["passed"].sum() == 12
    assert "gates/passed" not in finish_run(with_gates(gated), [])
    assert not Path(gated.path("gates.parquet")).exists() and "gates" not in load_summary(gated.output)
    Path(gated.path("gates.parquet")).write_bytes(b"somebody's own")
    finish_run(replace(with_gates(gated), source="elsewhere"), [])
    assert Path(gated.path("gates.parquet")).read_bytes() == b"somebody's own"


def test_a_score_that_the_run_does_not_have_is_named(gated: Run) -> None:
    with pytest.raises(ParamsError, match=r"gates of .*: no score 'identity/simle@\+1'; did you mean 'identity/smile"):
        judge(with_gates(gated, "identity/simle@+1 >= 0"))


def test_the_page_shows_curves_and_the_rows_at_the_border(gated: Run) -> None:
    page, verdicts = page_of(gated), judge(gated)
    assert [section.anchor for section in page.sections[-2:]] == ["gates", "stages"]
    assert page.tiles[3].label == "Pass the gates" and page.tiles[3].value == str(verdicts.passed.sum())
    text, html = (
        Path(gated.path("report.html")).read_text(),
        re.sub(r"data:[^\"]*", "", Path(gated.path("report.html")).read_text()),
    )
    assert html.count('class="plot gate"') == 3 and "keeps 10 of 12 rows (83%)" in html
    assert "identity/smile@+1 &gt;= 0.85: the last that pass" in text
    judged = verdicts.gates[0]
    inside, outside = nearest_rows(judged, most=2)
    ranked = np.argsort(np.abs(judged.values - 0.85))
    assert inside.tolist() == [n for n in ranked if judged.about[n] and judged.values[n] >= 0.85][:2]
    assert outside.tolist() == [n for n in ranked if judged.about[n] and judged.values[n] < 0.85][:2]
    shard, position = verdicts.place(int(outside[0]))
    key = pq.read_table(gated.shard("measure", shard))["key"][position].as_py()
    assert f'alt="smile@+1 image of {key}"' in text and f">{judged.values[outside[0]]:.4g}</dd>" in text


def test_of_several_scores_the_one_nearest_to_failing_counts() -> None:
    rows = np.array([[0.1, 0.5], [0.7, 0.2], [0.3, np.nan]], np.float32)
    for gate, values in (("x <= 1", [0.5, 0.7, np.nan]), ("x >= 0", [0.1, 0.2, np.nan])):
        found, which = nearest_to_failing(Gate.parse(gate), rows)
        np.testing.assert_array_equal(found, np.array(values, np.float32))
        assert which[2] == 1


def stored(folder: Path, stage: str, fields: list[pa.Field], rows: list[dict[str, Any]], recipe: str) -> Run:
    """A run of one stage with these rows."""
    spec = [{"operation": "panorama", "sources": [["a", "b"]]}, {"operation": "interpolate", "sources": [["a", "b"]]}]
    params = check_params({"compose": {"plan": spec}})
    base = {"status": "ok", "reason": "", "stage": stage}
    with ShardWriter(f"{folder}/{stage}/shard-00000.parquet", fields) as writer:
        writer.write([base | {"key": f"k{i}"} | row for i, row in enumerate(rows)])
    return Run(params, "seeds:4", str(folder), {"shard-00000.parquet": len(rows)}, {stage: {}}, recipe)


def test_a_composition_is_judged_by_the_scores_of_its_entry(tmp_path: Path) -> None:
    fields = [pa.field("name", pa.string()), *(pa.field(n, pa.float32()) for n in ("seam", "outside_change"))]
    rows: list[dict[str, Any]] = [{"name": "panorama", "seam": seam} for seam in (1.0, 2.0, None)]
    rows += [{"name": "interpolate"}, {"status": "bad_composition"}]
    run = with_gates(stored(tmp_path, "compose", fields, rows, "compose"), "seam <= 1.5", "seam/panorama <= q0.5")
    verdicts = judge(run)
    assert verdicts.passed.tolist() == [True, False, False, True, False]
    assert [(j.about.sum(), j.failed.sum(), j.missing.sum(), j.limit) for j in verdicts.gates] == [
        (3, 2, 1, 1.5),
        (3, 2, 1, 1.0),
    ]
    assert verdicts.statuses == {"bad_composition": 1}
    with pytest.raises(ParamsError, match="no score 'seam/interpolate'"):
        judge(with_gates(run, "seam/interpolate <= 1"))


def test_a_translation_without_its_truth_is_not_measured(tmp_path: Path) -> None:
    fields = [pa.field("lpips", pa.float64()), pa.field("factor", pa.int32())]
    rows: list[dict[str, Any]] = [{"lpips": 0.2}, {"lpips": None}, {"lpips": 0.3}]
    verdicts = judge(with_gates(stored(tmp_path, "translate", fields, rows, "translate"), "lpips <= 0.2"))
    assert verdicts.passed.tolist() == [True, False, False]
    assert verdicts.gates[0].explain(1) == "lpips <= 0.2: lpips is not measured"


def test_mlflows_table_names_the_gates_that_a_row_fails(gated: Run) -> None:
    table, rows = score_table(gated), ledger(gated)
    assert table["fails"].tolist() == ["; ".join(failed) for failed in rows["failed"]]
    assert "fails" not in score_table(with_gates(gated))
