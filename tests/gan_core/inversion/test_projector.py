"""Optimisation of latents: against the published projectors, and on a small generator."""

import pytest
import torch
from torch import Tensor

from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.projector import (
    PTI,
    Projection,
    Recipe,
    jitter_share,
    latent_statistics,
    noise_regulariser,
    normalise,
    project,
    shrink,
)
from gan_core.inversion.schedule import ramp
from tests.gan_core.inversion.conftest import raw, toy
from tests.golden.fill import fill_state, golden, keys, relative_error

SIZES = [4, 8, 8, 16, 16, 32]


def golden_maps() -> list[Tensor]:
    maps = [raw(f"noise{i}", 1, 1, s, s) + 0.3 * raw(f"noise_c{i}", 1, 1, 1, 1) for i, s in enumerate(SIZES)]
    return [noise + 0.5 * noise.roll(1, 3) for noise in maps]


def squared_difference(images: Tensor, targets: Tensor) -> Tensor:
    return (images - targets).square().flatten(1).mean(1)


def test_rates_and_noise_follow_the_published_schedule() -> None:
    expected, meta = golden("projector-schedule-and-noise")
    assert relative_error([0.1 * ramp(t, 0.25, 0.05) for t in meta["t"]], expected["lr"]) < 1e-4
    assert relative_error([0.05 * ramp(t, 0.3, 0.1) for t in meta["t"]], expected["lr2"]) < 1e-4
    assert relative_error([jitter_share(t) for t in meta["t"]], expected["latent_noise_factor"]) < 1e-4


def test_the_noise_regulariser_equals_both_published_ones() -> None:
    expected, _ = golden("projector-schedule-and-noise")
    each = [noise_regulariser(noise).item() for noise in golden_maps()]
    assert relative_error(each, expected["noise_reg_each"]) < 1e-4
    assert relative_error(each, expected["noise_reg_ada_each"]) < 1e-4
    assert sum(each) == pytest.approx(float(expected["noise_reg"]), rel=1e-4)


def test_noise_is_normalised_in_both_published_ways() -> None:
    expected, _ = golden("projector-schedule-and-noise")
    for i, noise in enumerate(golden_maps()):
        assert relative_error(normalise(noise, unbiased=True), expected[f"normalised{i}"]) < 1e-4
        assert relative_error(normalise(noise, unbiased=False), expected[f"normalised_ada{i}"]) < 1e-4


@pytest.mark.slow
@torch.no_grad()
def test_ten_steps_equal_the_published_projector() -> None:
    expected, meta = golden("projector-steps")
    generator = StyleGAN2(64).eval().requires_grad_(False)
    filled = {k: torch.from_numpy(v) for k, v in fill_state(keys(meta["keys"]), rule=meta["rule"]).items()}
    generator.load_state_dict(filled, strict=False)
    w = generator.mapping(raw("proj_z", 500, 512))
    mean, deviation = w.mean(0), float((w - w.mean(0)).square().sum().div(500).sqrt())
    assert relative_error(mean, expected["mean"]) < 1e-4 and deviation == pytest.approx(
        float(expected["std"]), rel=1e-4
    )
    target = generator.synthesis(generator.broadcast(generator.mapping(raw("proj_target_z", 1, 512)))).clamp(-1, 1)
    noise = [raw(f"proj_noise{i}", 1, 1, size, size) for i, size in enumerate(generator.noise_sizes())]
    recipe = Recipe(perceptual_weight=0.0, l2_weight=1.0)
    projection = Projection(generator, target, squared_difference, recipe, mean, deviation, noise)
    for step in range(meta["steps"]):
        losses = projection.step(step / meta["steps"], raw(f"proj_step{step}", 1, 1, 512))
        assert losses.total.item() == pytest.approx(float(expected["loss"][step]), rel=1e-3)
        assert losses.l2.item() == pytest.approx(float(expected["mse"][step]), rel=1e-3)
        assert losses.noise.item() == pytest.approx(float(expected["noise_reg"][step]), rel=1e-3)
        assert relative_error(projection.latents.detach()[0], expected["latents"][step]) < 3e-3
    assert relative_error(projection.noise[0], expected["noise0"]) < 3e-3
    assert relative_error(projection.noise[-1], expected["noise_last"]) < 3e-3


def targets(rows: int) -> Tensor:
    """Pictures that lie in W+ but not in W."""
    generator = toy()
    latents = generator.mapping(raw("z", rows * generator.n_latent, 8)).view(rows, generator.n_latent, 8)
    return generator.synthesis(latents).clamp(-1, 1)


def distance_found(recipe: Recipe, rows: int = 2) -> float:
    generator, wanted = toy(), targets(rows)
    w_plus, noise = project(generator, wanted, squared_difference, recipe, list(range(rows)))
    assert w_plus.shape == (rows, generator.n_latent, 8)
    return squared_difference(generator.synthesis(w_plus, noise), wanted).mean().item()


def test_more_freedom_comes_nearer() -> None:
    start = distance_found(Recipe(steps=1, samples=100, noise_weight=10))
    w = distance_found(Recipe(steps=60, samples=100, noise_weight=10))
    w_plus = distance_found(Recipe("w_plus", steps=60, samples=100, noise_weight=10))
    assert w_plus < 0.9 * w and w < 0.7 * start


def test_a_w_latent_is_the_same_in_every_layer_and_a_w_plus_one_is_not() -> None:
    for space, differs in (("w", False), ("w_plus", True)):
        w_plus, _ = project(toy(), targets(1), squared_difference, Recipe(space, steps=5, samples=50), [0])
        assert bool((w_plus != w_plus[:, :1]).any()) is differs


def test_rows_are_projected_as_if_alone() -> None:
    recipe, wanted = Recipe(steps=6, samples=50), targets(5)
    together, _ = project(toy(), wanted, squared_difference, recipe, [0, 1, 2, 3, 4])
    alone, _ = project(toy(), wanted[3:4], squared_difference, recipe, [3])
    torch.testing.assert_close(together[3:4], alone, rtol=0, atol=1e-3)
    assert not torch.allclose(together[2], together[3], atol=1e-2)


@pytest.mark.parametrize(("rows", "seeds"), [(0, []), (2, [0])])
def test_each_target_needs_a_seed(rows: int, seeds: list[int]) -> None:
    with pytest.raises(ValueError, match=f"{rows} targets and {len(seeds)} seeds: give one seed for each target"):
        project(toy(), targets(2)[:rows], squared_difference, Recipe(steps=1, samples=10), seeds)


def test_the_recipe_of_pivotal_tuning() -> None:
    assert (PTI.space, PTI.steps, PTI.lr, PTI.samples, PTI.unbiased) == ("w", 450, 0.01, 600, False)
    mean, deviation = latent_statistics(toy(), PTI.samples)
    assert mean.shape == (1, 8) and deviation > 0
    assert latent_statistics(toy(), PTI.samples)[1] == deviation


def test_large_images_are_compared_at_256_pixels() -> None:
    images = raw("large", 1, 3, 512, 512)
    torch.testing.assert_close(shrink(images)[0, 0, 0, 0], images[0, 0, :2, :2].mean())
    assert shrink(images).shape == (1, 3, 256, 256) and shrink(images[..., :64, :64]).shape == (1, 3, 64, 64)
