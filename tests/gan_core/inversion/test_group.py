"""One tuned generator for several images."""

import pytest
import torch
from torch import Tensor

from gan_core.inversion.group import tune_group
from gan_core.inversion.pti import tune_pivots
from tests.gan_core.inversion.conftest import pooled_difference, published, raw, toy
from tests.golden.fill import relative_error

PARAMS = published(steps=20, lr=5e-3)


def two() -> tuple[Tensor, Tensor]:
    return raw("pivot", 2, 6, 8), toy(1).synthesis(raw("other", 2, 6, 8)).clamp(-1, 1)


def test_one_difference_brings_all_images_nearer() -> None:
    pivots, targets = two()
    first, second = tune_group(toy(), pivots, targets, pooled_difference, PARAMS, [0, 1])
    assert first.delta is second.delta and (first.steps, first.stop_reason) == (20, "steps")
    assert first.losses[-1].l2 < 0.7 * first.losses[0].l2 and second.losses[-1].l2 < 0.7 * second.losses[0].l2
    generator = toy()
    for name, delta in first.delta.items():
        generator.get_parameter(name).add_(delta)
    torch.testing.assert_close(generator.synthesis(pivots[1:]), second.image, rtol=1e-3, atol=1e-3)


def test_a_group_of_one_is_tuned_like_one_image() -> None:
    pivots, targets = two()
    params = PARAMS.model_copy(update={"locality_weight": 0.1, "locality_alpha": 3.0, "min_resolution": 8})
    (grouped,) = tune_group(toy(), pivots[:1], targets[:1], pooled_difference, params, [7])
    (alone,) = tune_pivots(toy(), pivots[:1], targets[:1], pooled_difference, params, [7])
    assert relative_error([step.total for step in grouped.losses], [step.total for step in alone.losses]) < 1e-2


def test_a_group_that_diverges_keeps_the_generator() -> None:
    pivots, targets = two()
    wild = PARAMS.model_copy(update={"lr": 1e6, "steps": 3})
    results = tune_group(toy(), pivots, targets, pooled_difference, wild, [0, 1])
    assert {result.stop_reason for result in results} == {"diverged"}
    assert all(result.delta == {} for result in results)
    torch.testing.assert_close(results[0].image, toy().synthesis(pivots[:1]))


def test_it_is_compared_with_the_untuned_generator() -> None:
    """Before its first step in a round, an image is drawn with the steps of the others."""
    pivots, targets = raw("pivot", 6, 6, 8), toy(1).synthesis(raw("other", 6, 6, 8)).clamp(-1, 1)
    fast = PARAMS.model_copy(update={"lr": 0.1, "steps": 2})
    results = tune_group(toy(), pivots, targets, pooled_difference, fast, range(6))
    untuned = (toy().synthesis(pivots) - targets).square().mean((1, 2, 3))
    assert [result.losses[0].l2 for result in results] == pytest.approx(untuned.tolist(), rel=1e-3)
    nearer = sum(result.losses[-1].total - result.losses[0].total for result in results) <= 0
    assert {result.stop_reason for result in results} == {"steps" if nearer else "diverged"}
    assert len(results[0].losses) == 3
