"""Drawing again after a change of the upper weights only."""

import pytest
import torch
from torch.func import vmap

from gan_core.errors import ParamsError
from gan_core.generators.base import Generator, Noise
from gan_core.generators.stylegan2 import StyleGAN2


@pytest.fixture
def generator() -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(32, 8, 2, channels={4: 8, 8: 8, 16: 8, 32: 8}).eval().requires_grad_(False)


@pytest.mark.parametrize("noise", ["const", "none"])
@pytest.mark.parametrize("resolution", [4, 8, 16, 32])
def test_both_parts_draw_what_synthesis_draws_also_after_a_change(
    generator: StyleGAN2, resolution: int, noise: Noise
) -> None:
    w_plus = torch.randn(2, generator.n_latent, 8)
    below = generator.lower(w_plus, resolution, noise)
    before = generator.upper(below, w_plus, resolution, noise)
    assert torch.equal(before, generator.synthesis(w_plus, noise))
    for parameter in generator.upper_parameters(resolution).values():
        parameter += 0.1
    after = generator.upper(below, w_plus, resolution, noise)
    assert torch.equal(after, generator.synthesis(w_plus, noise))
    assert not torch.equal(after, before)


@pytest.mark.parametrize("resolution", [4, 16])
def test_rows_can_be_mapped_over(generator: StyleGAN2, resolution: int) -> None:
    w_plus = torch.randn(3, generator.n_latent, 8)
    below = generator.lower(w_plus, resolution)

    def draw(below: tuple[torch.Tensor, ...], code: torch.Tensor) -> torch.Tensor:
        return generator.upper(tuple(part[None] for part in below), code[None], resolution)[0]

    images = vmap(draw)(below, w_plus)
    torch.testing.assert_close(images, generator.synthesis(w_plus), rtol=1e-4, atol=1e-5)


def test_parameters_of_the_upper_part_are_those_at_its_resolution_and_above(generator: StyleGAN2) -> None:
    everything = dict(generator.named_parameters())
    assert generator.upper_parameters(4).keys() == everything.keys()
    upper = ("convs.4.", "convs.5.", "to_rgbs.2.")
    assert generator.upper_parameters(32).keys() == {name for name in everything if name.startswith(upper)}
    assert set(generator.upper_parameters(16)) - set(generator.upper_parameters(32)) == {
        name for name in everything if name.startswith(("convs.2.", "convs.3.", "to_rgbs.1."))
    }


def test_gradients_reach_the_upper_part_and_nothing_below(generator: StyleGAN2) -> None:
    generator.requires_grad_(True)
    w_plus = torch.randn(1, generator.n_latent, 8)
    with torch.no_grad():
        below = generator.lower(w_plus, 16)
    generator.upper(below, w_plus, 16).sum().backward()
    reached = {name for name, p in generator.named_parameters() if p.grad is not None}
    assert reached == generator.upper_parameters(16).keys()


@pytest.mark.parametrize("resolution", [0, 5, 64])
def test_a_resolution_that_it_does_not_have_is_refused(generator: StyleGAN2, resolution: int) -> None:
    with pytest.raises(ParamsError, match=f"resolution {resolution}: this generator has the powers of two up to 32"):
        generator.upper_parameters(resolution)


def test_a_family_without_resolutions_tunes_everything_or_refuses(generator: StyleGAN2) -> None:
    assert Generator.upper_parameters(generator, 4).keys() == dict(generator.named_parameters()).keys()
    assert Generator.lower(generator, torch.randn(1, generator.n_latent, 8), 4) == ()
    with pytest.raises(ParamsError, match="can't select its weights by resolution"):
        Generator.upper_parameters(generator, 8)
