"""The arithmetic of the benchmarks of tuning."""

import math

import pytest
import torch

from benchmarks.pti import mean_curve, seconds_until
from benchmarks.pti_sweep import cut_to_rank


def test_a_difference_of_rank_one_is_not_changed_by_a_cut_to_one() -> None:
    weight = torch.outer(torch.arange(1.0, 5.0), torch.linspace(-1, 1, 18)).reshape(1, 4, 2, 3, 3)
    found, size = cut_to_rank({"weight": weight, "bias": torch.ones(4)}, 1)
    torch.testing.assert_close(found["weight"], weight)
    assert torch.equal(found["bias"], torch.ones(4)) and size == (4 + 18) + 4


def test_a_cut_leaves_the_largest_part() -> None:
    weight = torch.diag(torch.tensor([3.0, 2.0, 1.0])).reshape(1, 3, 3, 1, 1)
    found, size = cut_to_rank({"weight": weight}, 2)
    assert found["weight"].flatten().tolist() == pytest.approx([3, 0, 0, 0, 2, 0, 0, 0, 0], abs=1e-6) and size == 12
    assert torch.equal(cut_to_rank({"weight": weight}, 3)[0]["weight"], weight)


def test_rows_that_have_stopped_keep_their_last_values_in_the_curve() -> None:
    run = {"curves": [[(4.0, 0.4), (2.0, 0.2)], [(2.0, 0.2), (2.0, 0.2), (0.0, 0.0)]], "step_seconds": 0.5}
    assert mean_curve(run)[:, 1].tolist() == pytest.approx([0.3, 0.2, 0.1])
    assert (seconds_until(run, 0.25), seconds_until(run, 0.15), seconds_until(run, 0.01)) == (0.5, 1.0, math.inf)
