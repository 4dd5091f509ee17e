"""The losses of StyleGAN2 (Karras et al. 2020) and the pyramid loss of the paired warm-up."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.device import place


def logistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Mean of ``softplus(-D(x)) + softplus(D(G(z)))``, logits of any shape (Goodfellow et al. 2014, logistic form)."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def nonsaturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """Mean of ``softplus(-D(G(z)))``, logits of any shape."""
    return F.softplus(-fake_logits).mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Mean squared norm of the discriminator's gradient at images ``[B, C, H, W]`` (Mescheder et al. 2018)."""
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def path_lengths(images: Tensor, w_plus: Tensor, noise: Tensor | None = None) -> Tensor:
    """Norm of the Jacobian-vector product with image noise, ``[B]`` (Karras et al. 2020, eq. 4).

    ``noise`` has the shape of ``images`` and unit variance; the sum over layers is averaged as in the published code.
    """
    noise = place(torch.randn_like(images, device="cpu")) if noise is None else noise
    scaled = noise / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * scaled).sum(), w_plus, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def path_length_penalty(lengths: Tensor, mean: Tensor, decay: float = 0.01) -> tuple[Tensor, Tensor]:
    """Return the mean squared deviation of ``lengths [B]`` from the running ``mean []``, and that moved by ``decay``.

    Both are ``[]``. The mean is a constant for gradients. In the published code they flow through it, with a weight of
    ``decay``.
    """
    moved = mean + decay * (lengths.mean().detach() - mean)
    return (lengths - moved).square().mean(), moved


def pyramid_loss(output: Tensor, target: Tensor, weight: Tensor | float = 1.0, levels: int = 4) -> Tensor:
    """Mean absolute difference over a pyramid of 2x2 averages and of the details between its levels.

    Equal weight per level makes thin features count as much as flat areas; ``weight`` (``[B, 1, H, W]``) says where it
    matters more.
    """
    loss = output.new_zeros(())
    difference = (output - target) * weight
    for _ in range(levels):
        coarse = F.avg_pool2d(difference, 2)
        loss = loss + (difference - F.interpolate(coarse, scale_factor=2)).abs().mean() + 0.25 * difference.abs().mean()
        difference = coarse
    return loss + difference.abs().mean()
