"""The losses of StyleGAN2 against the published implementation."""

import pytest
import torch

from gan_core.generators.discriminator import Discriminator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.training.losses import (
    logistic_discriminator_loss,
    nonsaturating_generator_loss,
    path_length_penalty,
    path_lengths,
    pyramid_loss,
    r1_penalty,
)
from tests.golden.fill import fill, fill_state, golden, keys, relative_error

TOLERANCE = 3e-4


def filled(network: torch.nn.Module, listing: str) -> torch.nn.Module:
    state = fill_state(keys(listing), rule="stylegan2")
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=False)
    return network


def raw(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(fill(f"input:{name}", shape, rule="raw"))


def test_path_lengths() -> None:
    generator = filled(StyleGAN2(64), "rosinality_generator_64_cm2")
    w_plus = generator.broadcast(generator.mapping(raw("z", 2, 512))).contiguous()
    lengths = path_lengths(generator.synthesis(w_plus), w_plus, raw("pl_noise", 2, 3, 64, 64))
    assert relative_error(lengths.detach(), golden("stylegan2-losses-64")[0]["path_lengths"]) < TOLERANCE


@pytest.mark.slow
def test_r1_and_the_logistic_losses() -> None:
    expected, _ = golden("stylegan2-losses-64")
    discriminator = filled(Discriminator(64), "rosinality_discriminator_64_cm2")
    real = 0.5 * raw("real", 4, 3, 64, 64)
    logits = discriminator(real).detach()
    assert relative_error(logits, expected["logits"]) < TOLERANCE
    penalty = r1_penalty(discriminator, real)
    assert relative_error(penalty.detach(), expected["r1"]) < TOLERANCE
    penalty.backward()
    gradient = discriminator.get_parameter("convs.0.0.weight").grad
    assert relative_error(gradient, expected["r1_grad_first_conv"]) < TOLERANCE
    assert relative_error(logistic_discriminator_loss(logits, -logits), expected["d_logistic"]) < TOLERANCE
    assert relative_error(nonsaturating_generator_loss(logits), expected["g_nonsaturating"]) < TOLERANCE


def test_the_path_length_mean_follows_the_lengths() -> None:
    penalty, mean = path_length_penalty(torch.tensor([2.0, 4.0]), torch.tensor(1.0), decay=0.5)
    assert mean == 2.0
    assert penalty == 2.0


def test_the_pyramid_loss_is_zero_for_equals_and_grows_with_the_difference() -> None:
    x = torch.randn(2, 3, 64, 64)
    assert pyramid_loss(x, x) == 0
    assert pyramid_loss(x, x + 0.2) > pyramid_loss(x, x + 0.1) > 0
