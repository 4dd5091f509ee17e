"""Mean squared error, PSNR and the mean over rows."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_core.judges.pictures import Pictures
from gan_core.metrics.base import ALIGNED, ENCODED, Setting, States
from gan_core.metrics.pixel import MeanSquaredError, PeakSignalToNoise, mse, psnr
from gan_core.params import MeasureParams, ModelPaths

SETTING = Setting(MeasureParams(), ModelPaths(), tuned=False)


def test_known_differences() -> None:
    x = torch.zeros(3, 3, 4, 4)
    y = torch.tensor([0.0, 0.02, 2.0]).reshape(3, 1, 1, 1).expand_as(x)
    assert mse(x, y).tolist() == pytest.approx([0, 4e-4, 4])
    assert psnr(x, y).tolist() == pytest.approx([100, 40, 0], abs=1e-5)


def test_batches_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images \[2, 3, 4, 4\] are compared with \[1, 3, 4, 4\]"):
        mse(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4))


@pytest.mark.parametrize("score", [mse, psnr])
def test_integers_are_refused(score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    pixels = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"images are torch.uint8: give floating-point values in \[-1, 1\]"):
        score(torch.zeros(1, 3, 4, 4), pixels)
    with pytest.raises(TypeError, match=r"torch.uint8"):
        score(pixels, pixels)


def test_rows_do_not_depend_on_each_other() -> None:
    x, y = torch.rand(2, 5, 3, 8, 8)
    torch.testing.assert_close(mse(x, y)[2:3], mse(x[2:3], y[2:3]))


@settings(max_examples=25)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=12), st.data())
def test_any_split_gives_the_mean_of_the_whole(levels: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(levels)))
    whole, parts = gathered(levels), [gathered(part) for part in (levels[:cut], levels[cut:]) if part]
    for metric in (MeanSquaredError, PeakSignalToNoise):
        name = f"{metric.name}/{ENCODED}"
        merged = {name: parts[0][name]} if len(parts) == 1 else {name: metric.merge(parts[0][name], parts[1][name])}
        assert metric.compute(merged).values[name] == pytest.approx(metric.compute({name: whole[name]}).values[name])
        assert merged[name]["n"] == len(levels)


def gathered(levels: list[float]) -> States:
    states: States = {}
    encoded = torch.tensor(levels).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    pictures = Pictures({ALIGNED: torch.zeros_like(encoded), ENCODED: encoded}, [str(i) for i in range(len(levels))])
    for metric in (MeanSquaredError(SETTING), PeakSignalToNoise(SETTING)):
        metric.update(states, pictures, metric.score(pictures))
    return states


def test_no_rows_give_a_reason_instead_of_a_number() -> None:
    summary = MeanSquaredError.compute({"mse/encoded": {"n": np.zeros(()), "sum": np.zeros(())}})
    assert (summary.values, summary.omitted) == ({}, {"mse/encoded": "no row has a score"})
