"""The adversarial game of a generator with StyleGAN2's discriminator, one turn at a time (Karras et al. 2020)."""

import torch
from torch import Tensor, nn

from gan_core.device import place
from gan_core.generators.discriminator import Discriminator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.toy.gan_params import GameParams
from gan_core.training.losses import logistic_discriminator_loss, nonsaturating_generator_loss, r1_penalty

MAX_NORM = 10.0
"""Gradients are clipped to this norm: rarely reached, it keeps one odd batch from undoing the training."""


def play(
    discriminator: Discriminator,
    optimiser: torch.optim.Optimizer,
    real: Tensor,
    images: Tensor,
    params: GameParams,
    step: int,
) -> tuple[Tensor, dict[str, float]]:
    """Let a discriminator learn from real and made images; return the generator's loss against it, and all losses."""
    found = _discriminator_step(discriminator, optimiser, real, images.detach(), params, step)
    discriminator.requires_grad_(False)
    loss = nonsaturating_generator_loss(discriminator(images))
    return loss, found | {"generator": loss.item()}


def _discriminator_step(
    discriminator: Discriminator,
    optimiser: torch.optim.Optimizer,
    real: Tensor,
    fake: Tensor,
    params: GameParams,
    step: int,
) -> dict[str, float]:
    discriminator.requires_grad_(True)
    real_logits, fake_logits = discriminator(real), discriminator(fake)
    loss = logistic_discriminator_loss(real_logits, fake_logits)
    found = {"discriminator": loss.item(), "real_sign": real_logits.sign().mean().item()}
    if step % params.r1_every == 0:
        penalty = r1_penalty(discriminator, real)
        loss, found["r1"] = loss + params.r1_gamma / 2 * params.r1_every * penalty, penalty.item()
    take_step(optimiser, loss, discriminator)
    return found


def take_step(optimiser: torch.optim.Optimizer, loss: Tensor, network: nn.Module) -> None:
    """Step down the gradient of a loss, clipped; raises ``RuntimeError`` where it isn't finite."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), MAX_NORM, error_if_nonfinite=True)
    optimiser.step()


def sample_grid(generator: StyleGAN2, count: int = 32) -> Tensor:
    """Images ``[count, 3, H, W]`` of a fixed set of latents, noise buffers constant."""
    z = place(torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        return generator(z)
