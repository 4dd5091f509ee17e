"""The arithmetic of the benchmark of the frontier: curves, areas, what is dominated, and the page."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.frontier import (
    Shares,
    area_ratio,
    best_so_far,
    is_dominated,
    judged,
    on_curve,
    steps_after_hypernetwork,
    within,
)
from benchmarks.frontier_methods import methods
from benchmarks.frontier_page import COLUMNS, draw_chart, missing_of, said_of, table_of
from gan_core.params import load_params

CURVE = [(0.0, 0.4), (2.0, 0.2), (4.0, 0.1)]


def row(method: str, group: str, seconds: float, lpips: float, **more: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(COLUMNS, 0.5) | {"lpips": lpips}
    errors = {f"{name}_error": 0.01 for name in COLUMNS}
    about = {"method": method, "group": group, "rows": 8, "seconds": seconds, "seconds_error": 0.0, "bytes": 5120.0}
    return about | numbers | errors | more


def test_a_curve_is_a_line_between_budgets_and_the_best_so_far_a_step() -> None:
    assert on_curve(CURVE, 1.0) == pytest.approx(math.sqrt(0.4 * 0.2)) and on_curve(CURVE, 9.0) == 0.1
    assert on_curve(CURVE, -0.1) == math.inf
    assert on_curve([(0.0, 0.2), (1.0, 0.3)], 0.9) == 0.2, "a dearer budget that brings less is not taken"
    assert best_so_far(CURVE, 1.9) == 0.4 and best_so_far(CURVE, 2.0) == 0.2 and best_so_far(CURVE, -1) == math.inf


def test_the_ratio_of_areas() -> None:
    assert area_ratio(CURVE, [(0.0, 0.4), (4.0, 0.1)]) == pytest.approx(1.6 / (0.6 / math.log(2)), rel=1e-3)
    assert area_ratio([(0.0, 0.5), (1.0, 0.5)], [(-1.0, 0.25)]) == pytest.approx(0.5)


def test_what_is_dominated_and_which_edits_are_worse() -> None:
    rows = [
        row("psp", "one pass", 0.1, 0.3, move=0.6),
        row("slow", "tuning", 2.0, 0.05),
        row("better", "tuning", 1.0, 0.01),
        row("ours, 0.1 s", "ours", 0.1, 0.3, move=0.585),
        row("ours, 1 s", "ours", 1.0, 0.04, move=0.5),
        {"method": "alae", "group": "one pass", "missing": "python -m tasks.train train-encoder@alae"},
    ]
    found = judged(rows)
    assert found["dominated"] == ["psp", "slow"] and found["area_ratio"] > 1
    assert found["edits_worse"] == ["ours, 1 s: move 0.500, psp 0.600"]
    near = [row("near", "network", 0.99, 0.04, seconds_error=e) for e in (0.001, 0.02)]
    assert [is_dominated(one, rows[3:5]) for one in near] == [False, True], (
        "seconds that differ by their error are equal"
    )
    assert "train-encoder@alae" in missing_of(rows) and "`psp`, `slow`" in said_of(found)
    assert judged(rows[:1])["dominated"] == [] and table_of(rows[:1]).count("\n") == 2


def test_methods_are_compared_over_the_portraits_that_both_have() -> None:
    ours = [row("ours, 1 s", "ours", 1.0, 0.30, lpips_some=0.2, lpips_few=0.4)]
    others = [
        row("all", "one pass", 1.0, 0.19, lpips_some=0.25, lpips_few=0.1),
        row("few", "tuning", 1.0, 0.35, lpips_few=0.35),
        row("some", "tuning", 1.0, 0.21, lpips_some=0.21, lpips_few=0.5),
    ]
    assert judged([*ours, *others])["dominated"] == ["all", "some"]
    masks = within(Shares(20, 8, 3).rows("some"), Shares(20, 8, 3))
    assert masks["few"].sum() == 3 and masks["some"].all() and set(within(torch.arange(3), Shares(20, 8, 3))) <= {"few"}


def test_steps_after_a_hypernetwork_compare_the_same_portraits() -> None:
    rows = [row(f"pti, {n} steps", "tuning", 1.0, 1 / n) for n in (10, 40)]
    rows += [row(f"hyperstyle, {n} of pti", "tuning", 1.0, 0.5 / n, rows=r) for n, r in ((5, 8), (10, 8), (20, 9))]
    assert steps_after_hypernetwork(rows) == {"10": 5.0, "40": math.inf}


def test_all_methods_are_named_with_what_trains_them() -> None:
    params = load_params(overrides={"models.encoder": "nowhere/{encoder}.safetensors", "models.features": "no"})
    names = [method.name for method in methods()]
    assert len(set(names)) == len(names) and sum(name.startswith("ours") for name in names) == 6
    missing = {method.name: method.missing(params) for method in methods()}
    assert missing["hfgi"] == ["python -m tasks.train train-encoder@psp", "python -m tasks.train train-features"]
    assert missing["restyle-e4e"] == ["python -m tasks.train train-encoder@restyle-e4e"]
    few, some = Shares(20, 8, 3).rows("few").tolist(), Shares(20, 8, 3).rows("some").tolist()
    assert len(few) == 3 and set(few) < set(some) and len(Shares(20, 8, 3).rows("all")) == 20


@pytest.mark.slow
def test_the_chart_has_every_method_and_is_the_same_again(tmp_path: Path) -> None:
    rows = [row("psp", "one pass", 0.1, 0.3), row("ours, 1 s", "ours", 1.0, 0.04), row("hfgi", "network", 0.2, 0.1)]
    for name in ("a.svg", "b.svg"):
        draw_chart(rows, tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert "psp" in text and "hfgi" in text and text == (tmp_path / "b.svg").read_text()
