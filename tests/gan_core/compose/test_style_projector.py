"""The projector of styles: nearer with every step, each row its own, held to the Gaussian of random styles."""

import pytest
import torch
from torch import Tensor

from gan_core.compose.style_projector import StyleRecipe, project_styles, style_statistics
from gan_core.generators.stylegan2 import StyleGAN2

QUICK = StyleRecipe(steps=40, samples=64, perceptual_weight=0.0)


def no_perceptual(images: Tensor, targets: Tensor) -> Tensor:
    return torch.zeros(len(images))


def targets(generator: StyleGAN2) -> Tensor:
    z = torch.randn(2, generator.z_dim, generator=torch.Generator().manual_seed(3))
    return generator.synthesis(generator.broadcast(generator.mapping(z)))


def test_the_styles_found_draw_the_image(small: StyleGAN2) -> None:
    wanted = targets(small)
    styles, history = project_styles(small, wanted, no_perceptual, QUICK)
    assert [s.shape for s in styles] == [s.shape for s in small.styles(torch.zeros(2, small.n_latent, 16))]
    mean, _ = style_statistics(small, 64)
    lengths = [s.shape[1] for s in styles]
    start = small.synthesis_from_styles(mean.expand(2, -1).split(lengths, 1))
    found = small.synthesis_from_styles(styles)
    assert (found - wanted).square().mean() < 0.5 * (start - wanted).square().mean()
    assert history[-1] < 0.6 * history[0]


def test_rows_do_not_depend_on_each_other(small: StyleGAN2) -> None:
    wanted = targets(small)
    both, _ = project_styles(small, wanted, no_perceptual, QUICK)
    alone, _ = project_styles(small, wanted[1:], no_perceptual, QUICK)
    for one, other in zip(both, alone, strict=True):
        torch.testing.assert_close(one[1:], other, rtol=1e-2, atol=1e-2)


def test_a_heavy_gaussian_keeps_the_mean_style(small: StyleGAN2) -> None:
    recipe = StyleRecipe(steps=40, samples=64, perceptual_weight=0.0, gaussian_weight=10.0)
    mean, _ = style_statistics(small, 64)
    held, _ = project_styles(small, targets(small), no_perceptual, recipe)
    free, _ = project_styles(small, targets(small), no_perceptual, QUICK)
    assert (torch.cat(held, 1) - mean).norm() < 0.5 * (torch.cat(free, 1) - mean).norm()


def test_statistics_are_those_of_random_styles(small: StyleGAN2) -> None:
    mean, variance = style_statistics(small, 1100)
    z = torch.randn(500, small.z_dim, generator=torch.Generator().manual_seed(0))
    flat = torch.cat(small.styles(small.broadcast(small.mapping(z))), 1)
    assert (mean - flat.mean(0)).abs().max() < 0.3
    assert variance.mean() == pytest.approx(float(flat.var(0).mean()), rel=0.2)


def test_a_ramped_rate_is_applied_where_asked(small: StyleGAN2) -> None:
    plain, _ = project_styles(
        small, targets(small), no_perceptual, StyleRecipe(steps=2, samples=8, perceptual_weight=0)
    )
    ramped, _ = project_styles(
        small, targets(small), no_perceptual, StyleRecipe(steps=2, samples=8, perceptual_weight=0, ramped=True)
    )
    assert not torch.equal(plain[0], ramped[0])
