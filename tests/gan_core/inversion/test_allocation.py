"""Steps by a table: a budget is met on average and spent where it brings most, and a target takes what it needs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_core.budgets import InvertParams
from gan_core.errors import DataError, ParamsError
from gan_core.inversion.allocation import (
    Allocation,
    Choice,
    Table,
    Trial,
    Way,
    check_target,
    read_table,
    write_table,
)

STEPS = (0, 1, 2, 5, 10, 20, 40)
STARTS = np.random.default_rng(0).uniform(0.02, 0.2, 64)
SETTING: dict[str, Any] = {"device": "cpu", "generator_sha256": "ab"}


def table(**changes: Any) -> Table:
    """Rows whose distance halves in five steps; a step takes 10 ms after 5 ms of looking and 15 ms of encoding."""
    trials = [Trial(steps=n, seconds=0.005 + 0.01 * n, distances=tuple(STARTS * 0.5 ** (n / 5))) for n in STEPS]
    made = {"setting": SETTING, "source": "runs/x", "encode_s": 0.015, "starts": tuple(STARTS), "trials": tuple(trials)}
    return Table(**made | changes)


def allocation(*others: Way, **invert: Any) -> Allocation:
    return Allocation(InvertParams(**invert), table(others=others), "table.json")


def steps_of(found: Allocation, starts: Sequence[float]) -> list[int]:
    choices = found.choose(starts)
    assert {choice.way for choice in choices} == {0}
    return [choice.steps for choice in choices]


@pytest.mark.parametrize("budget", [0.021, 0.03, 0.05, 0.1, 0.2, 0.4])
def test_a_budget_is_the_mean_of_what_rows_get(budget: float) -> None:
    found = allocation(budget_s=budget)
    spent = [found.seconds(choice) for choice in found.choose(list(STARTS))]
    assert budget - 0.01 / 4 < np.mean(spent) <= budget + 1e-9


def test_rows_that_are_farther_away_get_more_and_the_mean_is_lower_than_with_equal_steps() -> None:
    found = allocation(budget_s=0.12)
    steps = np.array(steps_of(found, list(STARTS)))
    far = np.median(STARTS) < STARTS
    assert steps[far].mean() > steps[~far].mean()
    assert (STARTS * 0.5 ** (steps / 5)).mean() < (STARTS * 0.5 ** (10 / 5)).mean()


def test_a_budget_above_all_trials_is_the_longest_of_them() -> None:
    found = allocation(budget_s=9)
    assert steps_of(found, [0.0, 0.1, 5.0]) == [40] * 3
    assert found.seconds(Choice(0, 40)) == found.seconds(Choice(0, 99)) == pytest.approx(0.42)


def test_a_target_takes_the_fewest_steps_that_reach_it() -> None:
    found = allocation(target="lpips <= 0.02")
    steps = steps_of(found, list(STARTS))
    reached = np.mean(STARTS * 0.5 ** (np.array(steps) / 5) <= 0.02)
    assert reached >= 0.9 and min(steps) < max(steps) < 40
    late = allocation(target="lpips <= 0.0005")
    assert steps_of(late, [0.2]) == [40], "what few rows reach is tried to the end"


def network(seconds: float, share: float) -> Way:
    """A way without tuning, that leaves a share of the distance."""
    return Way(refine=("features",), trials=(Trial(steps=0, seconds=seconds, distances=tuple(share * STARTS)),))


def test_a_way_that_brings_more_for_its_seconds_is_taken_and_one_that_brings_less_is_not() -> None:
    cheap, dear = network(0.015, 0.2), network(0.2, 0.1)  # 11.6 steps bring as much as the first, for 0.116 s
    found = allocation(cheap, dear, budget_s=0.026)
    choices = found.choose(list(STARTS))
    assert {choice.way for choice in choices} == {0, 1} and len(found.ways) == 3
    spent = [found.seconds(choice) for choice in choices]
    assert 0.024 < np.mean(spent) <= 0.026 and str(found.ways[1]) == "features"
    left = [0.2 if choice.way else 0.5 ** (choice.steps / 5) for choice in choices]
    alone = steps_of(allocation(budget_s=0.026), list(STARTS))
    assert np.mean(STARTS * left) < 0.6 * np.mean(STARTS * 0.5 ** (np.array(alone) / 5))


def test_what_steps_of_their_own_take_counts() -> None:
    plain, mixed = (Allocation(InvertParams(budget_s=0.1), table(mixed=m), "t") for m in (1.0, 1.05))
    assert mixed.looks and mixed.seconds(Choice(0, 10)) == pytest.approx(0.015 + 1.05 * 0.105)
    spent = [np.mean([found.seconds(c) for c in found.choose(list(STARTS))]) for found in (plain, mixed)]
    assert 0.09 < min(spent) <= max(spent) <= 0.1
    assert np.mean(steps_of(mixed, list(STARTS))) < np.mean(steps_of(plain, list(STARTS)))


def test_a_look_that_brings_too_little_is_left_out() -> None:
    near = 0.1 + 0.01 * STARTS  # nearly the same for all rows
    trials = [Trial(steps=n, seconds=0.005 + 0.01 * n, distances=tuple(near * 0.5 ** (n / 5))) for n in STEPS]
    alike = table(look_s=0.03, starts=tuple(near), trials=tuple(trials))
    blind, looking = (Allocation(InvertParams(budget_s=0.1), made, "t") for made in (alike, table(look_s=0.001)))
    assert not blind.looks and looking.looks
    (choice,) = set(blind.for_all(3))
    assert 0.09 < blind.seconds(choice) <= 0.1 and blind.seconds(choice) == pytest.approx(0.02 + 0.01 * choice.steps)
    with pytest.raises(ParamsError, match=r"no way takes less than 0\.03 s"):
        Allocation(InvertParams(budget_s=0.029), alike, "t")
    assert Allocation(InvertParams(budget_s=0.031), alike, "t").for_all(1) == [Choice(0, 1)]


def test_a_target_that_one_way_reaches_for_all_rows_needs_no_look() -> None:
    near, far = network(0.01, 0.05), network(0.02, 0.01)
    found = Allocation(InvertParams(target="lpips <= 0.02"), table(others=(near, far), look_s=0.01), "t")
    assert not found.looks and found.for_all(2) == [Choice(1, 0)] * 2
    assert found.seconds(Choice(1, 0)) == pytest.approx(0.025)
    found = Allocation(InvertParams(target="lpips <= 0.005"), table(others=(near, far), look_s=0.001), "t")
    assert found.looks, "near rows are done by the cheaper one"


def test_a_large_budget_goes_past_a_network_to_steps_that_bring_more() -> None:
    found = allocation(network(0.015, 0.2), budget_s=9)
    assert set(found.choose(list(STARTS))) == {Choice(0, 40)} and not found.looks


def test_a_target_takes_the_cheapest_way_that_reaches_it() -> None:
    found = allocation(network(0.015, 0.2), target="lpips <= 0.02")
    assert found.choose([0.03, 0.19]) == [Choice(1, 0), Choice(0, 20)]


@pytest.mark.parametrize(
    ("invert", "said"),
    [
        ({"budget_s": 0.019}, r"budget_s is 0\.019, and by table\.json no way takes less than 0\.02 s a row"),
        ({"target": "lpips <= 1e-5"}, "none of the 64 rows of table.json reached lpips <= 1e-05; the nearest came to"),
    ],
)
def test_what_no_steps_can_do_is_one_sentence(invert: dict[str, Any], said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        allocation(**invert)


@pytest.mark.parametrize(
    ("invert", "said"),
    [
        ({"budget_s": 1, "target": "lpips <= 1"}, "a budget and a target are given"),
        ({"target": "mse <= 1"}, "'mse <= 1' is no target"),
        ({"target": "lpips >= 1"}, "is no target"),
        ({"target": "lpips <= q0.5"}, "is no target"),
        ({"target": "lpips <= 0"}, "is no target"),
        ({"budget_s": 0}, "greater than 0"),
    ],
)
def test_parameters_that_mean_nothing(invert: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        InvertParams(**invert)


def test_a_target_is_stored_as_it_is_written() -> None:
    stored = InvertParams(target="lpips ≤ 0.01").model_dump(mode="json")
    assert stored == {"budget_s": None, "target": "lpips <= 0.01"} and InvertParams(**stored).given


def test_a_table_is_read_for_its_own_setting_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "t.json")
    with pytest.raises(ParamsError, match=r"there is no table of steps in .*calibrate-inversion"):
        read_table(path, SETTING)
    write_table(path, table())
    again, sha256 = read_table(path, SETTING)
    assert again == table() and len(sha256) == 64
    with pytest.raises(ParamsError, match="measured with another device, tune"):
        read_table(path, SETTING | {"device": "cuda", "tune": {"lr": 1}})


@pytest.mark.parametrize("damage", [{"trials": []}, {"starts": [1.0]}, {"encode_s": -1}, {"more": 1}, {"starts": "x"}])
def test_a_damaged_table_is_one_sentence(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(table().model_dump(mode="json") | damage))
    with pytest.raises(DataError, match="holds no table of steps"):
        read_table(str(path), SETTING)
    path.write_text("{")
    with pytest.raises(DataError, match="holds no table of steps"):
        read_table(str(path), SETTING)


def test_only_a_table_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "table.json")
    check_target(path)
    write_table(path, table())
    check_target(path)
    Path(path).write_text("my notes")
    with pytest.raises(DataError, match=r"table\.json holds something else, no table: move it away"):
        check_target(path)


@pytest.mark.parametrize("budget", [0.0999, 0.1, 0.1001])
def test_a_budget_may_be_used_up_exactly_before_the_last_row(budget: float) -> None:
    starts = (0.38, 0.08, 0.27, 0.06, 0.18, 0.38, 0.18, 0.21)
    trials = [
        Trial(steps=n, seconds=0.01 * n, distances=tuple(round(start / share, 3) for start in starts))
        for n, share in ((0, 1), (10, 2), (40, 4))
    ]
    found = Allocation(InvertParams(budget_s=budget), table(encode_s=0.05, starts=starts, trials=tuple(trials)), "x")
    assert np.mean([found.seconds(choice) for choice in found.choose(list(starts))]) <= budget + 1e-9
