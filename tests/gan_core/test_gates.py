"""Gates as they are written, and what they let pass."""

import re
from typing import Any

import numpy as np
import pytest

from gan_core.errors import ParamsError
from gan_core.gates import Gate
from gan_core.params import Params, check_params


@pytest.mark.parametrize(
    ("text", "gate", "written"),
    [
        ("identity/smile@+1 >= 0.6", Gate("identity/smile@+1", ">=", 0.6), "identity/smile@+1 >= 0.6"),
        ("lpips ≤ q0.9", Gate("lpips", "<=", 0.9, quantile=True), "lpips <= q0.9"),
        ("lpips<=q1", Gate("lpips", "<=", 1.0, quantile=True), "lpips <= q1"),
        ("  a b@-0.5,c@+1 ≥ -1e-3 ", Gate("a b@-0.5,c@+1", ">=", -0.001), "a b@-0.5,c@+1 >= -0.001"),
        ("psnr/encoded >= 0.123456789", Gate("psnr/encoded", ">=", 0.123456789), "psnr/encoded >= 0.123456789"),
        ("odd >= name <= 3", Gate("odd >= name", "<=", 3.0), "odd >= name <= 3"),
    ],
)
def test_gates_are_read_and_written(text: str, gate: Gate, written: str) -> None:
    assert (Gate.parse(text), str(gate), Gate.parse(written)) == (gate, written, gate)


@pytest.mark.parametrize(
    ("gates", "problem"),
    [
        (["lpips < 0.2"], 'no gate: write SCORE >= LIMIT or SCORE <= LIMIT, such as "lpips <= 0.2"'),
        (["lpips"], "no gate"),
        ([">= 0.2"], "no gate"),
        (["lpips <= "], "no gate"),
        ([3], "no gate"),
        ([{"lpips": 0.2}], "no gate"),
        (["lpips <= much"], "'much' is no limit of a gate"),
        (["lpips <= nan"], "'nan' is no limit"),
        (["lpips >= -inf"], "'-inf' is no limit"),
        (["lpips <= q1.5"], "q1.5 is no quantile: they are q0 to q1"),
        (["lpips <= q-0.1"], "q-0.1 is no quantile"),
        (["lpips <= 1", "lpips ≤ 1.0"], "the gate 'lpips <= 1' is there twice"),
        ({"lpips": 0.2}, "a valid list"),
        ([f"lpips <= {i}" for i in range(101)], "at most 100"),
    ],
)
def test_what_is_no_gate_is_refused_by_its_path(gates: Any, problem: str) -> None:
    with pytest.raises(ParamsError, match=rf"params: gates.*{re.escape(problem)}"):
        check_params({"gates": gates})


def test_parameters_keep_gates_as_texts_and_say_nothing_without_any() -> None:
    params = check_params({"gates": "lpips <= 0.2"})
    assert params.gates == [Gate("lpips", "<=", 0.2)]
    stored = params.model_dump(mode="json")
    assert stored["gates"] == ["lpips <= 0.2"] and check_params(stored) == params
    assert "gates" not in Params().model_dump(mode="json") and check_params({"gates": []}) == Params()


def test_the_limit_itself_passes_as_shards_hold_it_and_nan_never_does() -> None:
    scores = np.array([0.1, 0.2, 0.3, np.nan], np.float32)
    assert Gate.parse("x <= 0.1").passes(scores, 0.1).tolist() == [True, False, False, False]
    assert Gate.parse("x >= 0.3").passes(scores, 0.3).tolist() == [False, False, True, False]
    assert Gate.parse("x <= 1e300").passes(scores, 1e300).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("text", "kept"),
    [("x <= q0.9", 9), ("x >= q0.7", 3), ("x >= q0.1", 9), ("x <= q0", 1), ("x >= q0", 10), ("x <= q0.85", 9)],
)
def test_a_quantile_keeps_its_share_of_the_measured_rows(text: str, kept: int) -> None:
    scores = np.append(np.random.default_rng(3).permutation(10) / 7, np.nan).astype(np.float32)
    gate = Gate.parse(text)
    passed = gate.passes(scores, gate.place(scores))
    assert passed.sum() == kept
    best = np.sort(scores[:10])[:: -1 if gate.higher else 1][:kept]
    assert sorted(scores[passed]) == sorted(best)
    assert gate.place(np.array([np.nan])) is None and not gate.passes(scores, None).any()
