"""Studies: who is trained and measured when, what is kept, and what of it is made again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gan_core.training.log import Report
from gan_core.training.study import Plan, Study
from tests.reports import Reports

PLAN = Plan(["a", "b"], [0, 1], [10, 20])


@dataclass
class Counting(Study[int]):
    """A training is a number that grows to its budget; its file holds the number."""

    unit = "images"
    plan: Plan = PLAN
    key: str = "world"
    keys: dict[str, str] = field(default_factory=dict)
    trained: list[tuple[str, int, int]] = field(default_factory=list)
    measured: list[list[str]] = field(default_factory=list)

    def key_of(self, method: str) -> str:
        return self.keys.get(method, "")

    def train(self, method: str, seed: int, budget: int, path: Path, report: Report) -> int:
        seen = int(path.read_text()) if path.exists() else 0
        if seen < budget:
            self.trained.append((method, seed, budget))
            path.write_text(str(budget))
        return budget

    def measure(self, seed: int, budget: int, trained: Mapping[str, int]) -> dict[str, dict[str, object]]:
        self.measured.append(list(trained))
        return {method: {"error": 1 / 3 + seed, "named": {"x": 1 / 3}} for method in trained}


class Together(Counting):
    together = True


def run(study: Counting, folder: Path) -> list[dict[str, object]]:
    return study.run(folder, folder / "rows.json", lambda _: Reports())


def test_all_trainings_reach_a_budget_before_any_goes_further(tmp_path: Path) -> None:
    study = Counting()
    rows = run(study, tmp_path)
    assert study.trained == [(m, s, b) for b in (10, 20) for s in (0, 1) for m in ("a", "b")]
    assert study.measured == [["a"], ["b"]] * 4
    assert rows[0] == {"method": "a", "seed": 0, "images": 10, "error": 0.333333, "named": {"x": 1 / 3}}
    assert json.loads((tmp_path / "rows.json").read_text()) == {"key": "world", "rows": rows}
    again = Counting()
    assert run(again, tmp_path) == rows and not again.trained and not again.measured


def test_methods_go_further_alone_when_all_have_reached_the_common_budgets(tmp_path: Path) -> None:
    rows = run(Counting(), tmp_path)
    more = Counting(plan=Plan(["a", "b"], [0, 1], [10, 20], {"b": [30, 40]}))
    assert run(more, tmp_path)[: len(rows)] == rows
    assert more.trained == [("b", s, budget) for budget in (30, 40) for s in (0, 1)]
    assert more.measured == [["b"]] * 4


def test_a_method_that_comes_later_is_trained_alone(tmp_path: Path) -> None:
    rows = run(Counting(), tmp_path)
    more = Counting(plan=Plan(["a", "b", "c"], [0, 1], [10, 20]))
    assert run(more, tmp_path)[: len(rows)] == rows
    assert more.trained == [("c", s, b) for b in (10, 20) for s in (0, 1)]


def test_rows_of_a_method_with_other_settings_are_made_again(tmp_path: Path) -> None:
    run(Counting(keys={"a": "first"}), tmp_path)
    changed = Counting(keys={"a": "second"})
    for path in tmp_path.glob("a-*.pt"):
        path.unlink()
    rows = run(changed, tmp_path)
    assert {method for method, _, _ in changed.trained} == {"a"} and len(rows) == 8
    assert {row.get("made_from") for row in rows if row["method"] == "a"} == {"second"}
    assert {row.get("made_from") for row in rows if row["method"] == "b"} == {None}


def test_what_is_measured_together_is_made_again_together(tmp_path: Path) -> None:
    run(Together(plan=Plan(["a"], [0], [10])), tmp_path)
    study = Together(plan=Plan(["a", "b"], [0], [10]))
    rows = run(study, tmp_path)
    assert study.measured == [["a", "b"]] and [row["method"] for row in rows] == ["a", "b"]
