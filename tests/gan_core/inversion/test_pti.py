import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.locality import Locality, near_pivot
from gan_core.inversion.pti import Budget, Tuned, learning_rate, tune_pivots
from gan_core.judges.perceptual import PerceptualLoss, load_perceptual
from gan_core.precision import has_bfloat16
from tests.gan_core.inversion.conftest import pooled_difference, published, raw, toy
from tests.golden.fill import fill_state, golden, keys, relative_error

TABLE = Path(__file__).parents[2] / "golden" / "ada-to-rosinality-64.json"


def published_generator() -> StyleGAN2:
    """The golden generator is filled by its ADA names; the table gives ours."""
    table = json.loads(TABLE.read_text())["generator"]
    filled = fill_state(keys("ada_generator_64_cb32768_map8"), rule="stylegan2")
    generator = StyleGAN2(64).eval().requires_grad_(False)
    with torch.no_grad():
        for key, tensor in generator.state_dict().items():
            entry = next(row for row in table if row["rosinality"] == key)
            if entry["ada"] in filled:
                tensor.copy_(torch.from_numpy(filled[entry["ada"]]).reshape(tensor.shape))
        generator.latent_avg.copy_(torch.from_numpy(filled["mapping.w_avg"]))
    return generator


def published_target() -> Tensor:
    small = raw("target", 1, 3, 16, 16)
    return F.interpolate(small, (64, 64), mode="bilinear", align_corners=False).clamp(-1, 1)


def alex(folder: Path) -> PerceptualLoss:
    filled = fill_state(keys("lpips_alex"), rule="he")
    torch.save({key: torch.from_numpy(v) for key, v in filled.items() if key.startswith("net.")}, folder / "alex.pt")
    return load_perceptual(folder / "alex.pt").model


@pytest.mark.slow
@pytest.mark.parametrize("terms", ["l2", "l2-lpips"])
def test_five_steps_equal_the_published_loop(terms: str, tmp_path: Path) -> None:
    expected, meta = golden(f"pti-tuning-64-{terms}")
    params = published(steps=5, lr=3e-4, perceptual_weight=meta["args"]["pt_lpips_lambda"])
    generator, pivot = published_generator(), 0.5 * raw("pivot", 1, 10, 512)
    (result,) = tune_pivots(generator, pivot, published_target(), alex(tmp_path), params, [0])
    assert relative_error(generator.synthesis(pivot), expected["image_before"]) < 1e-4
    assert relative_error([step.total for step in result.losses], expected["loss"]) < 1e-3
    assert relative_error([step.l2 for step in result.losses], expected["l2"]) < 1e-3
    assert relative_error(result.image, expected["image_after"]) < 2e-3
    strength = generator.get_parameter("convs.0.noise.weight") + result.delta["convs.0.noise.weight"]
    assert strength.item() == pytest.approx(float(expected["b8_conv0_noise_strength"]), rel=1e-4)
    assert not [name for name in result.delta if name.startswith("style.")]
    if terms == "l2-lpips":
        assert relative_error([step.perceptual for step in result.losses], expected["lpips"]) < 1e-3


@pytest.mark.slow
def test_the_locality_term_equals_the_published_one(tmp_path: Path) -> None:
    expected, _ = golden("pti-locality-regulariser")
    generator, pivot = published_generator(), 0.5 * raw("pivot", 1, 10, 512)
    w = generator.truncate(generator.mapping(raw("loc_z", 1, 512)), 0.5)
    assert relative_error(w, expected["w_z"]) < 1e-4
    assert relative_error(near_pivot(pivot, generator.broadcast(w), 30), expected["w_r"]) < 1e-4
    table = {row["rosinality"]: row["ada"] for row in json.loads(TABLE.read_text())["generator"]}
    tuned = copy.deepcopy(generator)
    for name, parameter in tuned.named_parameters():
        parameter *= 1.02 if table[name].endswith(("conv1.weight", "bias")) else 1
    with torch.no_grad():
        before, after = (g.synthesis(near_pivot(pivot, generator.broadcast(w), 30), "none") for g in (generator, tuned))
        locality = Locality(generator, pivot, alex(tmp_path), 30, [0])
        assert relative_error(locality.codes(raw("loc_z", 1, 512)), expected["w_r"]) < 1e-4
        assert 0.1 * locality.distance(before, after).item() == pytest.approx(float(expected["loss"]), rel=1e-3)
        locality.loss = lambda x, y: torch.zeros(1)
        assert locality.distance(before, after).item() == pytest.approx(float(expected["l2"]), rel=1e-3)


def tune(target: Tensor, seed: int = 0, **changes: Any) -> Tuned:
    params = published(**({"steps": 20, "lr": 3e-3} | changes))
    return tune_pivots(toy(), raw("pivot", 1, 6, 8), target, pooled_difference, params, [seed])[0]


def test_no_rows_are_tuned_to_nothing_and_other_pivots_are_refused() -> None:
    pivots, targets = raw("pivot", 2, 6, 8), torch.zeros(2, 3, 16, 16)
    assert tune_pivots(toy(), pivots[:0], targets[:0], pooled_difference, published(), []) == []
    with pytest.raises(ValueError, match=r"pivots are \[2, 4, 8\], \[B, 6, 8\] are expected"):
        tune_pivots(toy(), pivots[:, :4], targets, pooled_difference, published(), [0, 1])


def toy_target() -> Tensor:
    return toy(1).synthesis(raw("other", 1, 6, 8)).clamp(-1, 1)


def test_tuning_draws_the_target_and_leaves_the_generator() -> None:
    generator, pivot, target = toy(), raw("pivot", 1, 6, 8), toy_target()
    before = copy.deepcopy(generator.state_dict())
    (result,) = tune_pivots(generator, pivot, target, pooled_difference, published(steps=60, lr=1e-2), [0])
    assert result.stop_reason == "steps" and result.steps == 60 and len(result.losses) == 61
    assert result.losses[-1].l2 < 0.2 * result.losses[0].l2
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())
    with torch.no_grad():
        for name, delta in result.delta.items():
            generator.get_parameter(name).add_(delta)
    torch.testing.assert_close(generator.synthesis(pivot), result.image, rtol=1e-4, atol=1e-4)


def test_the_same_call_gives_the_same_bits() -> None:
    first, second = tune(toy_target(), locality_weight=0.1), tune(toy_target(), locality_weight=0.1)
    assert first.losses == second.losses
    assert all(torch.equal(first.delta[name], second.delta[name]) for name in first.delta)


def three_targets() -> tuple[Tensor, Tensor]:
    """Pivots and targets that are reached fast, slowly, and hardly."""
    pivots = raw("pivot", 1, 6, 8).repeat(3, 1, 1)
    near = toy().synthesis(pivots[:1]) + 0.05
    return pivots, torch.cat([near.clamp(-1, 1), toy_target(), -toy_target()])


@pytest.mark.parametrize("min_resolution", [4, 8])
def test_company_changes_rounding_only(min_resolution: int) -> None:
    pivots, targets = three_targets()
    params = published(steps=12, lr=5e-3, locality_weight=0.1, min_resolution=min_resolution)
    together = tune_pivots(toy(), pivots, targets, pooled_difference, params, [3, 4, 5])
    for row, result in enumerate(together):
        (alone,) = tune_pivots(toy(), pivots[[row]], targets[[row]], pooled_difference, params, [3 + row])
        assert relative_error([step.total for step in result.losses], [step.total for step in alone.losses]) < 1e-4
        torch.testing.assert_close(result.image, alone.image, rtol=0, atol=1e-3)
    assert len({result.losses[3] for result in together}) == 3


def test_a_row_that_is_done_leaves_and_the_others_go_on_as_before() -> None:
    pivots, targets = three_targets()
    params = published(steps=12, lr=5e-3, stop_perceptual=0.14, locality_weight=0.01)
    together = tune_pivots(toy(), pivots, targets, pooled_difference, params, [3, 4, 5])
    assert together[0].stop_reason == "perceptual" and together[0].steps < 12
    assert (together[2].stop_reason, together[2].steps) == ("steps", 12)
    (alone,) = tune_pivots(toy(), pivots[2:], targets[2:], pooled_difference, params, [5])
    assert relative_error([step.total for step in together[2].losses], [step.total for step in alone.losses]) < 1e-4
    for name, delta in alone.delta.items():
        torch.testing.assert_close(together[2].delta[name], delta, rtol=0, atol=1e-3)


def test_rows_have_budgets_of_their_own() -> None:
    pivots, targets = three_targets()
    params = published(steps=12, lr=5e-3, lr_rampdown=0.5)
    budgets = [Budget(4, 5e-3), Budget(12, 1e-3), Budget(8, 1e-2)]
    together = tune_pivots(toy(), pivots, targets, pooled_difference, params, [0, 0, 0], budgets)
    assert [result.steps for result in together] == [4, 12, 8]
    for row, (steps, lr) in enumerate(budgets):
        own = params.model_copy(update={"steps": steps, "lr": lr})
        (alone,) = tune_pivots(toy(), pivots[[row]], targets[[row]], pooled_difference, own, [0])
        assert relative_error([s.total for s in together[row].losses], [s.total for s in alone.losses]) < 1e-4


def test_a_broken_row_does_not_touch_its_neighbours() -> None:
    pivots, targets = three_targets()
    params = published(steps=6, lr=5e-3)
    whole = tune_pivots(toy(), pivots[1:], targets[1:], pooled_difference, params, [4, 5])
    targets[0] = float("nan")
    together = tune_pivots(toy(), pivots, targets, pooled_difference, params, [3, 4, 5])
    assert [result.stop_reason for result in together] == ["diverged", "steps", "steps"]
    assert relative_error([s.total for s in together[1].losses], [s.total for s in whole[0].losses]) < 1e-4


def test_the_rate_falls_at_the_end_only() -> None:
    budget = Budget(100, 0.5)
    assert [learning_rate(budget, step, 0.0) for step in (0, 99)] == [0.5, 0.5]
    assert [learning_rate(budget, step, 0.25) for step in (0, 75)] == [0.5, 0.5]
    assert learning_rate(budget, 87, 0.25) == pytest.approx(0.5 * (0.5 - 0.5 * math.cos(math.pi * 0.52)))


def test_the_decays_of_adam_reach_the_optimiser() -> None:
    usual, other = tune(toy_target(), steps=4), tune(toy_target(), steps=4, betas=(0.5, 0.9))
    assert other.losses[1].total == pytest.approx(usual.losses[1].total, rel=1e-5)
    assert abs(other.losses[3].total - usual.losses[3].total) > 1e-3


def test_the_fast_precision_stays_near_the_exact_one() -> None:
    exact, fast = tune(toy_target(), steps=20), tune(toy_target(), steps=20, precision="fast")
    assert fast.losses[-1].l2 == pytest.approx(exact.losses[-1].l2, rel=0.05)
    assert fast.losses[-1].l2 < 0.8 * fast.losses[0].l2
    assert not has_bfloat16() or fast.losses != exact.losses


def test_it_stops_when_the_image_is_close_enough() -> None:
    full = tune(toy_target())
    threshold = full.losses[7].perceptual
    early = tune(toy_target(), stop_perceptual=threshold)
    assert early.stop_reason == "perceptual" and early.steps == 7
    assert early.losses == full.losses[:8]


@pytest.mark.parametrize("lr", [1e6, 30.0])
def test_divergence_falls_back_to_the_pivot(lr: float) -> None:
    result = tune(toy_target(), lr=lr)
    assert result.stop_reason == "diverged" and result.delta == {}
    assert torch.equal(result.image, toy().synthesis(raw("pivot", 1, 6, 8)))


def test_a_target_with_nan_diverges_at_once() -> None:
    result = tune(torch.full((1, 3, 16, 16), float("nan")))
    assert (result.stop_reason, result.steps) == ("diverged", 0)
    assert result.image.isfinite().all()


def test_locality_holds_the_neighbourhood() -> None:
    generator, pivot = toy(), raw("pivot", 1, 6, 8)
    near = near_pivot(pivot, generator.broadcast(generator.mapping(raw("z", 1, 8))), 3.0)

    def drift(weight: float) -> float:
        result = tune(toy_target(), steps=40, locality_weight=weight, locality_alpha=3.0)
        tuned = toy()
        with torch.no_grad():
            for name, delta in result.delta.items():
                tuned.get_parameter(name).add_(delta)
        return (tuned.synthesis(near, "none") - generator.synthesis(near, "none")).square().mean().item()

    assert drift(1.0) < 0.9 * drift(0.0)


def test_near_pivot_is_at_the_distance_asked_for() -> None:
    pivot, w = raw("pivot", 1, 6, 8), raw("w", 1, 6, 8)
    code = near_pivot(pivot, w, 30.0)
    assert (code - pivot).norm().item() == pytest.approx(30, rel=1e-5)
    assert F.cosine_similarity((code - pivot).flatten(), (w - pivot).flatten(), dim=0).item() == pytest.approx(1)


def test_only_the_weights_at_the_chosen_resolution_and_above_move() -> None:
    result = tune(toy_target(), steps=60, lr=2e-2, min_resolution=16)
    assert result.delta.keys() <= toy().upper_parameters(16).keys()
    assert {name.split(".")[0] for name in result.delta} == {"convs", "to_rgbs"}
    assert result.losses[-1].l2 < 0.7 * result.losses[0].l2


@pytest.mark.parametrize(
    ("rows", "seeds", "budgets", "told"),
    [(3, [0, 1], None, "'targets': 3"), (2, [0], None, "'seeds': 1"), (2, [0, 1], [Budget(1, 0.1)], "'budgets': 1")],
)
def test_what_is_not_one_for_each_row_is_refused(
    rows: int, seeds: list[int], budgets: list[Budget] | None, told: str
) -> None:
    pivots, targets = raw("pivot", 2, 6, 8), torch.zeros(rows, 3, 16, 16)
    with pytest.raises(ValueError, match=f"2 pivots, but .*{told}"):
        tune_pivots(toy(), pivots, targets, pooled_difference, published(steps=1), seeds, budgets)
