import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.locality import Locality, near_pivot
from gan_core.inversion.pti import Tuned, tune_pivot, tune_pivots
from gan_core.metrics.perceptual import PerceptualLoss, load_perceptual
from gan_core.params import TuneParams
from tests.golden.fill import fill, fill_state, golden, keys, relative_error

TABLE = Path(__file__).parents[2] / "golden" / "ada-to-rosinality-64.json"


def toy(seed: int = 0) -> StyleGAN2:
    torch.manual_seed(seed)
    return StyleGAN2(16, 8, 2, channels={4: 8, 8: 8, 16: 8}).eval().requires_grad_(False)


def raw(key: str, *shape: int) -> Tensor:
    return torch.from_numpy(fill(f"input:{key}", shape, rule="raw"))


def pooled_difference(images: Tensor, targets: Tensor) -> Tensor:
    return F.avg_pool2d(images - targets, 4).abs().mean((1, 2, 3))


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
    return load_perceptual(folder / "alex.pt")


@pytest.mark.slow
@pytest.mark.parametrize("terms", ["l2", "l2-lpips"])
def test_five_steps_equal_the_published_loop(terms: str, tmp_path: Path) -> None:
    expected, meta = golden(f"pti-tuning-64-{terms}")
    params = TuneParams(steps=5, lr=3e-4, perceptual_weight=meta["args"]["pt_lpips_lambda"])
    generator, pivot = published_generator(), 0.5 * raw("pivot", 1, 10, 512)
    result = tune_pivot(generator, pivot, published_target(), alex(tmp_path), params)
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
    locality = Locality(generator, pivot, alex(tmp_path), TuneParams(locality_weight=0.1), seed=0)
    both = 0.1 * locality.distance(tuned, raw("loc_z", 1, 512))
    assert both.item() == pytest.approx(float(expected["loss"]), rel=1e-3)
    locality.loss = lambda x, y: torch.zeros(1)
    assert locality.distance(tuned, raw("loc_z", 1, 512)).item() == pytest.approx(float(expected["l2"]), rel=1e-3)


def tune(target: Tensor, seed: int = 0, **changes: float) -> Tuned:
    params = TuneParams(**({"steps": 20, "lr": 3e-3} | changes))
    return tune_pivot(toy(), raw("pivot", 1, 6, 8), target, pooled_difference, params, seed)


def toy_target() -> Tensor:
    return toy(1).synthesis(raw("other", 1, 6, 8)).clamp(-1, 1)


def test_tuning_draws_the_target_and_leaves_the_generator() -> None:
    generator, pivot, target = toy(), raw("pivot", 1, 6, 8), toy_target()
    before = copy.deepcopy(generator.state_dict())
    result = tune_pivot(generator, pivot, target, pooled_difference, TuneParams(steps=60, lr=1e-2))
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


def test_rows_of_a_batch_are_tuned_as_if_alone() -> None:
    targets = torch.cat([toy_target(), -toy_target()])
    pivots = raw("pivot", 1, 6, 8).expand(2, -1, -1)
    params = TuneParams(steps=5, locality_weight=0.1)
    together = tune_pivots(toy(), pivots, targets, pooled_difference, params, [3, 4])
    alone = tune_pivot(toy(), pivots[1:], targets[1:], pooled_difference, params, 4)
    assert together[1].losses == alone.losses and together[0].losses != alone.losses


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
    assert result.delta.keys() <= toy().tail_parameters(16).keys()
    assert {name.split(".")[0] for name in result.delta} == {"convs", "to_rgbs"}
    assert result.losses[-1].l2 < 0.7 * result.losses[0].l2
