"""Drawing again after a change of the upper weights only."""

import pytest
import torch

from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.stylegan2 import StyleGAN2


@pytest.fixture
def generator() -> StyleGAN2:
    torch.manual_seed(0)
    return StyleGAN2(32, 8, 2, channels={4: 8, 8: 8, 16: 8, 32: 8}).eval().requires_grad_(False)


@pytest.mark.parametrize("resolution", [4, 8, 16, 32])
def test_the_tail_draws_what_synthesis_draws_also_after_a_change(generator: StyleGAN2, resolution: int) -> None:
    w_plus = torch.randn(2, generator.n_latent, 8)
    draw = generator.tail(w_plus, resolution)
    before = draw()
    assert torch.equal(before, generator.synthesis(w_plus))
    for parameter in generator.tail_parameters(resolution).values():
        parameter += 0.1
    assert torch.equal(draw(), generator.synthesis(w_plus))
    assert not torch.equal(draw(), before)


def test_parameters_of_the_tail_are_those_at_its_resolution_and_above(generator: StyleGAN2) -> None:
    everything = dict(generator.named_parameters())
    assert generator.tail_parameters(4).keys() == everything.keys()
    upper = ("convs.4.", "convs.5.", "to_rgbs.2.")
    assert generator.tail_parameters(32).keys() == {name for name in everything if name.startswith(upper)}
    assert set(generator.tail_parameters(16)) - set(generator.tail_parameters(32)) == {
        name for name in everything if name.startswith(("convs.2.", "convs.3.", "to_rgbs.1."))
    }


def test_gradients_reach_the_tail_and_nothing_below(generator: StyleGAN2) -> None:
    generator.requires_grad_(True)
    generator.tail(torch.randn(1, generator.n_latent, 8), 16)().sum().backward()
    reached = {name for name, p in generator.named_parameters() if p.grad is not None}
    assert reached == generator.tail_parameters(16).keys()


@pytest.mark.parametrize("resolution", [0, 5, 64])
def test_a_resolution_that_it_does_not_have_is_refused(generator: StyleGAN2, resolution: int) -> None:
    with pytest.raises(ParamsError, match=f"resolution {resolution}: this generator has the powers of two up to 32"):
        generator.tail_parameters(resolution)


def test_a_family_without_resolutions_tunes_everything_or_refuses(generator: StyleGAN2) -> None:
    assert Generator.tail_parameters(generator, 4).keys() == dict(generator.named_parameters()).keys()
    with pytest.raises(ParamsError, match="can't tell its weights by resolution"):
        Generator.tail_parameters(generator, 8)
