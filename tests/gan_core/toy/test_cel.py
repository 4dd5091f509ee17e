"""The cel-shaded style: flat, inked, deterministic, and drawn where the plain style draws."""

import torch

from gan_core.toy.renderer import render, sample_factors
from gan_core.toy.renderer.anatomy import Anatomy
from gan_core.toy.renderer.cel import CelCanvas, CelLight, render_cel
from gan_core.toy.renderer.factors import columns

FACTORS = sample_factors(range(12))


def test_rows_stand_alone_and_come_again() -> None:
    images = render_cel(FACTORS)
    assert images.shape == (12, 3, 64, 64)
    assert images.min() >= -1 and images.max() <= 1
    assert (render_cel(FACTORS[5:6])[0] - images[5]).abs().max() < 1e-6
    assert torch.equal(render_cel(FACTORS[:4]), render_cel(FACTORS[:4]))
    assert render_cel(FACTORS[:1], size=32).shape == (1, 3, 32, 32)


def test_it_is_flat_where_the_plain_style_is_shaded() -> None:
    def still(images: torch.Tensor) -> float:
        return float((images.diff(dim=3).abs().amax(1) < 1e-6).float().mean())

    assert still(render_cel(FACTORS)) > 0.4
    assert still(render(FACTORS).image) < 0.1


def test_ink_follows_the_outlines_of_the_plain_style() -> None:
    sketch, images = render(FACTORS).sketch[:, 0], render_cel(FACTORS)
    dark = images.amax(1) < -0.45
    on, off = dark & (sketch == 0), dark & (sketch == 1)
    assert on.sum() / (sketch == 0).sum() > 2.5 * off.sum() / (sketch == 1).sum()


def test_the_light_has_two_tones_and_shadows_one_depth() -> None:
    anatomy = Anatomy.from_factors(columns(FACTORS[:1]))
    x = torch.linspace(-1, 1, 50).view(1, 1, 50)
    normal = (x, torch.zeros_like(x), (1 - x.square()).sqrt())
    assert len(CelLight.from_anatomy(anatomy).shade(normal).unique()) == 2
    canvas = CelCanvas(torch.ones(1, 3, 1, 50))
    canvas.darken(x.abs())
    assert len(canvas.colour[0, 0].unique()) == 2
