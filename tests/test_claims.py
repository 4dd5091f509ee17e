"""Claims are judged by all seeds and by whether the budget was enough, and the page says what the rows say."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from scipy.stats import ttest_1samp

from benchmarks import claims
from benchmarks.neighbours import SEEDS, neighbours
from benchmarks.tuning import Portraits
from benchmarks.verdicts import Claim, Part, Verdict, answer, at_equal_seconds, interval, judge, verdict_of
from gan_core.toy.params import load_toy_params
from gan_core.training.study import Row
from tests.gan_core.editing.conftest import LinearWorld

ROOT = Path(__file__).parents[1]
RIVALS = ("psp", "e4e")
MARGINS = (1.0, 2.5, 3.0, 0.5)
SMALLER = Claim("smaller", "an article", "a is smaller than b", "world", (Part("error", "a", "b"),))


def rows(*margins: float, moves: int | None = None) -> list[Row]:
    budget = {} if moves is None else {"moves": moves}
    pairs = [({"method": "a", "error": 5 - m}, {"method": "b", "error": 5.0}) for m in margins]
    return [row | {"seed": seed} | budget for seed, pair in enumerate(pairs) for row in pair]


@pytest.mark.parametrize(
    ("margins", "expected"),
    [
        ((1.0, 1.1, 0.9), "yes"),
        ((-1.0, -1.1, -0.9), "no"),
        ((1.0, 1.1, -0.1), "unclear"),
        ((1.0, 2.0, 3.0), "unclear"),  # 3.5 standard errors, of which three seeds need 4.3
        ((1.0, 2.0, 3.0) * 2, "yes"),
        ((-0.5, *(1.0, 1.1) * 5), "yes"),
        ((0.0, 0.0, 0.0), "unclear"),
        ((1.0,), "unclear"),
    ],
)
def test_an_answer_needs_an_interval_without_zero(margins: tuple[float, ...], expected: str) -> None:
    assert answer(margins) == expected


def test_the_interval_is_students() -> None:
    low, high = ttest_1samp(MARGINS, 0.0).confidence_interval(0.99)
    assert interval(MARGINS, 0.99) == pytest.approx(((low + high) / 2, (high - low) / 2))
    assert interval([2.0]) == (2.0, float("inf"))


def test_answers_before_all_planned_seeds_need_more_confidence() -> None:
    few, same = rows(1.0, 1.2, 0.8), rows(1.0, 1.0, 1.0)
    assert judge(SMALLER, {"world": few}).verdict == "held"
    early = judge(SMALLER, {"world": few}, planned=16)
    assert (early.verdict, early.why) == ("open", "no clear answer from 3 of 16 seeds")
    assert judge(SMALLER, {"world": same}, planned=16).verdict == "held"
    also = replace(SMALLER, parts=(*SMALLER.parts, Part("other", "a", limit=2.0)))
    partly = [row | {"other": row["seed"]} for row in same]
    assert judge(also, {"world": partly}).verdict == "held_in_part"
    assert judge(also, {"world": partly}, planned=16).why == "no clear answer from 3 of 16 seeds"


def test_a_row_may_lack_a_measure() -> None:
    stored = rows(1.0, 1.1, 0.9)
    part = Part("other", "a", limit=2.0)
    assert part.margins(stored) == [] and part.margins([stored[0] | {"other": 1.5}]) == [0.5]
    both = replace(SMALLER, parts=(*SMALLER.parts, part))
    assert judge(both, {"world": stored}).why == "fewer than 3 seeds"
    some = [row | ({"other": 1.5} if row["seed"] else {}) for row in rows(1.0, 1.1, 0.9, 1.0)]
    found = judge(both, {"world": some})
    assert (found.verdict, found.seeds) == ("held", 3)


def test_a_claim_of_several_parts() -> None:
    assert verdict_of(["yes", "yes"]) == "held"
    assert verdict_of(["yes", "no"]) == verdict_of(["unclear", "yes"]) == "held_in_part"
    assert verdict_of(["no", "no"]) == "refuted"
    assert verdict_of(["no", "unclear"]) == "open"


@pytest.mark.parametrize(
    ("stored", "verdict", "why"),
    [
        (rows(1.0, 1.1, 0.9), "held", ""),
        (rows(-1.0, -1.1, -0.9), "refuted", ""),
        (rows(1.0, 1.1), "open", "fewer than 3 seeds"),
        ([], "open", "not measured yet"),
        (rows(1.0, 1.1, -0.9), "open", "no clear answer"),
        (rows(1.0, 1.1, 0.9, moves=100), "open", "nothing shows"),
        (rows(1.0, 1.1, 0.9, moves=60) + rows(1.0, 1.1, 0.9, moves=100), "open", "nothing shows"),
        (rows(1.0, 1.1, 0.9, moves=50) + rows(1.0, 1.1, 0.9, moves=100), "held", ""),
        (rows(3.0, 3.1, 2.9, moves=50) + rows(1.0, 1.1, 0.9, moves=100), "open", "more moves still change it"),
        (rows(1.0, 1.1, 0.9, moves=50) + rows(3.0, 3.1, 2.9, moves=100), "held", ""),
        (rows(-3.0, -3.1, -2.9, moves=50) + rows(3.0, 3.1, 2.9, moves=100), "open", "more moves still change it"),
        (rows(-1.0, 1.1, 0.9, moves=50) + rows(1.0, 1.1, 0.9, moves=100), "open", "more moves still change it"),
        (rows(1.01, 1.01, 1.01, moves=50) + rows(1.0, 1.0, 1.0, moves=100), "held", ""),
        (rows(1.0, 1.1, 0.9, moves=20) + rows(1.0, 1.1, 0.9, moves=50), "open", "50 of 100 moves so far"),
        (rows(1.0, 1.1, 0.9, moves=50) + rows(9.0, 9.0, moves=100), "open", "50 of 100 moves so far"),
    ],
)
def test_no_verdict_without_seeds_and_a_budget_that_is_enough(stored: list[Row], verdict: Verdict, why: str) -> None:
    found = judge(SMALLER, {"world": stored}, 100)
    assert found.verdict == verdict and found.why.startswith(why) and bool(why) == bool(found.why)


def test_limits_shares_and_more() -> None:
    values = [{"method": name, "seed": 0, "error": value} for name, value in (("a", 2.0), ("b", 3.0))]
    assert Part("error", "a", limit=1.0).margins(values) == [-1.0]
    assert Part("error", "a", "b", share=0.5, more=True).margins(values) == [0.5]
    assert Part("error", "a", "b").shown(values) == "a 2 ± nan, b 3 ± nan (by 1 ± inf)"
    assert Part("error", "a", "b").shown(rows(1.0, 2.0, 3.0)) == "a 3 ± 1, b 5 ± 0 (by 2 ± 2.5)"


def test_the_page_says_what_the_stored_rows_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    stored, page = claims.stored_rows(), claims.PAGE.read_text()
    assert claims.page_with(page, claims.tables_of(claims.judge_all(stored), stored)) == page, (
        "write it with `python -m benchmarks.claims --page`"
    )
    assert page.count("\n| ") > len(claims.CLAIMS)


def test_a_claim_is_to_reach_what_all_its_encoders_reach() -> None:
    toy, text = load_toy_params(), "a is nearer than b"
    study = toy.study_encoders.model_copy(update={"images": [10, 20], "further": {"psp": [40], "e4e": [30]}})
    toy = toy.model_copy(update={"study_encoders": study})

    def goal(method: str, rival: str, source: str) -> int:
        return claims.goal_of(Claim("nearer", "an article", text, source, (Part("mse", method, rival),)), toy)

    for source in ("encoders", *claims.EQUAL_SECONDS.values()):
        assert goal("psp", "e4e", source) == 30
        assert goal("psp", "alae", source) == 20
    assert goal("soat", "singan", "singan") == 0
    blends = Claim("blends", "an article", text, "singan", (Part("seam", "soat", "singan"),))
    assert claims.seeds_of(blends, toy) == len(toy.study_singan.seeds)
    assert claims.seeds_of(replace(blends, source="tuning"), toy) == SEEDS


def test_names_of_claims_are_listed_by_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(claims, "stored_rows", lambda: {"world": rows(*[1.0, 1.1, 0.9] * 4)})
    monkeypatch.setattr(claims, "CLAIMS", (SMALLER, replace(SMALLER, name="unseen", source="another world")))
    monkeypatch.setattr("sys.argv", ["benchmarks.claims"])
    for world in ("world", "another world"):
        monkeypatch.setitem(claims.COMMANDS, world, "python -m world")
    claims.main()
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == 'RESULT {"held": ["smaller"], "held_in_part": [], "refuted": [], "open": ["unseen"]}'


def test_neighbours_are_as_far_from_their_pivots_as_asked() -> None:
    world = LinearWorld()
    pivots = world.broadcast(world.mapping(torch.randn(3, 12, generator=torch.Generator().manual_seed(9))))
    portraits = cast(Portraits, SimpleNamespace(generator=world, pivots=pivots, loss=None))
    near = neighbours(portraits, 2.75, 4, seed=0)
    assert near.shape == (4, 3, 6, 12) and not torch.equal(near, neighbours(portraits, 2.75, 4, seed=1))
    torch.testing.assert_close((near - pivots).flatten(2).norm(dim=2), torch.full((4, 3), 2.75))
    far = neighbours(portraits, None, 4, seed=0)
    assert far.shape == near.shape and (far - pivots).flatten(2).norm(dim=2).min() > 2.75
    for row in range(8):  # the locality term draws by the numbers of rows
        trained = torch.randn(far.numel(), generator=torch.Generator().manual_seed(row))[:12]
        assert not (far - world.broadcast(world.mapping(trained[None]))).abs().amax((2, 3)).lt(1e-6).any()


COST = Part("size", "a", "b", fixed=True)
STUDIED = Claim("smaller", "an article", "", "world", (Part("error", "a", "b"), COST), unit="images")


def studied(images: int, a: float, b: float, seeds: int = 3, size: float = 1.0) -> list[Row]:
    pairs = [({"method": "a", "error": a, "size": size}, {"method": "b", "error": b, "size": 2.0})] * seeds
    return [row | {"seed": seed, "images": images} for seed, pair in enumerate(pairs) for row in pair]


def test_budgets_are_counted_in_the_unit_of_the_claim_and_sizes_do_not_depend_on_them() -> None:
    rows = studied(50, 1.0, 2.0, size=1.5) + studied(100, 1.0, 2.0)
    found = judge(STUDIED, {"world": rows}, 100)
    assert (found.verdict, found.budget, found.seeds) == ("held", 100, 3)
    assert judge(STUDIED, {"world": rows}, 200).why == "100 of 200 images so far"
    assert judge(STUDIED, {"world": studied(100, 1.0, 2.0)}).why.startswith("nothing shows that more images")


def test_a_budget_that_not_all_methods_have_reached_does_not_count() -> None:
    further = [row for row in studied(200, 9.0, 1.0) if row["method"] == "a" or row["seed"] < 2]
    rows = studied(50, 1.0, 2.0) + studied(100, 1.0, 2.0) + further
    rows += [row | {"method": "c"} for row in studied(400, 9.0, 9.0)]
    assert judge(STUDIED, {"world": rows}).budget == 100


def test_methods_are_compared_after_the_seconds_of_the_quickest() -> None:
    curves = {"a": {10: (1.0, 8.0), 20: (2.0, 4.0)}, "b": {10: (1.5, 9.0), 20: (3.0, 3.0)}}
    rows = [
        {"method": method, "seed": 0, "images": images, "seconds": seconds, "error": error, "size": 7}
        for method, curve in curves.items()
        for images, (seconds, error) in curve.items()
    ]
    shared = {"seed": 0, "images": 20, "seconds": 2.0, "size": 7}
    assert at_equal_seconds(rows, "images") == [
        {"method": "a", "error": 4.0} | shared,
        {"method": "b", "error": pytest.approx(7.0)} | shared,
    ], "after 10 images b had not been measured yet"
    assert at_equal_seconds([row for row in rows if row["method"] == "a" or row["images"] == 10], "images") == []


def test_pairs_of_encoders_are_compared_after_equal_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [
        {"method": method, "seed": 0, "images": images, "seconds": seconds * images, "mse": 1.0}
        for method, seconds in {"psp": 3.0, "e4e": 1.0, "style-transformer": 1.5, "alae": 0.1}.items()
        for images in ((10, 20, 40) if method == "psp" else (10, 20))
    ]
    rows.append(rows[-4] | {"images": 40, "seconds": 60.0})
    (tmp_path / "study-encoders.json").write_text(json.dumps({"key": "", "rows": rows}))
    monkeypatch.setattr(claims, "SCORES", tmp_path)
    found = claims.stored_rows()
    shown = {rival: {(row["images"], row["seconds"]) for row in found[f"{rival} in equal seconds"]} for rival in RIVALS}
    assert shown == {"psp": {(20, 30.0), (40, 60.0)}, "e4e": {(20, 20.0)}}, "e4e has no 40 images"
    methods = [row["method"] for row in found["psp in equal seconds"]]
    assert methods == ["psp", "style-transformer"] * 2


def test_learning_curves_leave_out_what_a_method_or_all_of_them_do_not_have() -> None:
    rows = [row | ({"edges": 1.0} if row["method"] == "b" else {}) for row in studied(50, 1.0, 2.0)]
    assert claims.curve_table(rows, "images", ("error", "corners", "edges")).splitlines() == [
        "| images | method | seeds | error | edges |",
        "|---|---|---|---|---|",
        "| 50 | a | 3 | 1 ± 0 |  |",
        "| 50 | b | 3 | 2 ± 0 | 1 ± 0 |",
    ]
    assert claims.curve_table([], "images", ("error",)) == "Not measured yet."
