"""The comparison's columns, ranks and champion."""

import pytest

from gan_core.report.comparison import Comparison, draw_comparison, numbers_of

METRICS = {
    "mse/encoded": 0.02,
    "mse/tuned": 0.001,
    "lpips/toy/encoded": 0.1,
    "identity/toy/encoded": 0.3,
    "identity/toy/smile@+1": 0.7,
    "fid/toy-attr/encoded": 2.0,
    "fid/toy-attr/smile@+1": 3.0,
    "fid/toy-attr/yaw@+1": 5.0,
    "swd/mean/encoded": 20.0,
    "swd/16/yaw@+1": 90.0,
    "swd/mean/yaw@+1": 30.0,
}


def test_columns_come_from_the_encoder_alone() -> None:
    found = numbers_of(METRICS, {"parameters": 5.0})
    wanted = {
        "mse": 0.02,
        "lpips": 0.1,
        "identity": 0.3,
        "fid": 2.0,
        "swd": 20.0,
        "fid of edits": 4.0,
        "swd of edits": 30.0,
        "parameters": 5.0,
    }
    assert found == wanted


def test_a_measured_number_that_is_not_judged_has_a_column_of_its_own() -> None:
    encoders = {"a": {"mse": 0.1, "psnr": 20.0, "unknown": 1.0}, "b": {"mse": 0.2, "psnr": 30.0, "unknown": 2.0}}
    assert Comparison(encoders).columns == ["mse", "psnr"]
    assert Comparison(encoders).champion == "a"


def test_what_a_run_left_out_is_absent() -> None:
    assert numbers_of({"mse/encoded": 0.5}, {}) == {"mse": 0.5}


@pytest.fixture
def comparison() -> Comparison:
    return Comparison(
        {
            "psp": {"mse": 0.02, "identity": 0.5, "fid": 3.0, "parameters": 4.0},
            "e4e": {"mse": 0.03, "identity": 0.4, "parameters": 3.0},
            "wide": {"mse": 0.02, "identity": 0.6, "fid": 1.0, "parameters": 9.0},
        }
    )


def test_ranks_are_over_the_columns_that_all_have(comparison: Comparison) -> None:
    assert comparison.columns == ["mse", "identity", "parameters"]
    assert comparison.ranks == {"psp": 1.75, "e4e": 3.0, "wide": 1.25}
    assert comparison.champion == "wide"
    assert [row["encoder"] for row in comparison.rows()] == ["wide", "psp", "e4e"]


def test_the_rule_names_what_was_ranked_and_what_was_not_measured(comparison: Comparison) -> None:
    assert comparison.rule == (
        "The best mean rank over MSE, Identity, each counted once; on a tie, the encoder with fewer parameters. "
        "Not measured for all of them: LPIPS, FID, SWD, FID of edits, SWD of edits."
    )


def test_of_equal_ones_the_smaller_wins() -> None:
    same = {"mse": 0.1, "parameters": 9.0}
    assert Comparison({"large": same, "small": same | {"parameters": 1.0}}).champion == "small"
    by_size = Comparison({"large": {"parameters": 9.0}, "small": {"parameters": 1.0}})
    assert by_size.champion == "small" and by_size.rule.startswith("The encoder with fewer parameters. Not measured")


def test_an_encoder_that_could_not_be_measured_decides_nothing() -> None:
    measured, broken = {"mse": 0.1, "parameters": 9.0}, {"parameters": 1.0}
    found = Comparison.of({"psp": measured, "broken": broken, "e4e": measured | {"mse": 0.2}})
    assert (found.champion, found.judged, found.left_out) == ("psp", ["mse"], ("broken",))
    assert found.rule.endswith("Left out, as none of their rows could be measured: broken.")
    assert Comparison.of({"a": broken, "b": broken}).encoders.keys() == {"a", "b"}


def test_numbers_of_different_rows_are_told() -> None:
    psp, e4e = {"mse": 0.1, "rows": 6.0}, {"mse": 0.2, "rows": 5.0}
    found = Comparison({"psp": psp, "e4e": e4e})
    assert found.rule.endswith("as not every encoder could encode all: 6 of psp, 5 of e4e.")
    assert found.columns == ["mse"]
    assert "different rows" not in Comparison({"psp": psp, "e4e": e4e | {"rows": 6.0}}).rule


def test_the_chart_has_a_panel_a_column(comparison: Comparison) -> None:
    figure = draw_comparison(comparison)
    titles = ["MSE\nlower is better", "Identity\nhigher is better", "Parameters\nlower is better"]
    assert [axes.get_title() for axes in figure.axes] == titles
    assert [len(axes.patches) for axes in figure.axes] == [3, 3, 3]


def test_a_terminal_gets_the_table_with_the_champion_first() -> None:
    encoders = {"long-name": {"mse": 0.123456, "psnr": 20.0}, "b": {"mse": 0.02, "psnr": 31.5}}
    *table, last = Comparison(encoders).lines()
    assert table == [
        "encoder    b     long-name",
        "mse        0.02  0.1235",
        "psnr       31.5  20",
        "mean rank  1     2",
    ]
    assert last.startswith("best: b. The best mean rank")


def test_edits_are_compared_by_the_network_that_compares_reconstructions() -> None:
    both = {"fid/inception/encoded": 40.0, "fid/inception/smile@+1": 60.0, "fid/inception/yaw@+1": 70.0}
    found, first = numbers_of(METRICS | both, {}), numbers_of(METRICS, {})
    assert (found["fid"], found["fid of edits"]) in [(first["fid"], first["fid of edits"]), (40.0, 65.0)]
