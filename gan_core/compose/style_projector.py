"""Projection to S space: find the styles of an image by optimisation (the projector of SOAT).

No stage uses it. Call ``project_styles`` from your own code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.locality import Perceptual
from gan_core.inversion.schedule import ramp

STATISTICS_BATCH = 500
"""Latents whose styles are in memory at once."""


@dataclass(frozen=True)
class StyleRecipe:
    """The settings of the projection; the defaults are those of the published script.

    The script computes a learning rate that rises and falls, but doesn't apply it; ``ramped`` applies it. ``samples``
    latents determine the mean and the variances of the Gaussian prior.
    """

    steps: int = 3000
    lr: float = 0.05
    samples: int = 10_000
    perceptual_weight: float = 20.0
    l2_weight: float = 1.0
    gaussian_weight: float = 1e-3
    ramped: bool = False


@torch.no_grad()
def style_statistics(generator: StyleGAN2, samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return mean and variance, each ``[S]``, of the concatenated styles of ``samples`` random latents."""
    total = squares = torch.zeros((), dtype=torch.float64)
    stream = torch.Generator().manual_seed(seed)
    for start in range(0, samples, STATISTICS_BATCH):
        z = torch.randn(min(STATISTICS_BATCH, samples - start), generator.z_dim, generator=stream)
        z = z.to(generator.latent_avg.device)
        flat = torch.cat(generator.styles(generator.broadcast(generator.mapping(z))), 1).cpu().double()
        total, squares = total + flat.sum(0), squares + flat.square().sum(0)
    mean = total / samples
    variance = (squares - samples * mean.square()) / max(samples - 1, 1)
    at = generator.latent_avg.device
    return mean.float().to(at), variance.clamp_min(1e-8).float().to(at)


@torch.no_grad()
def project_styles(
    generator: StyleGAN2, targets: Tensor, loss: Perceptual, recipe: StyleRecipe = StyleRecipe()
) -> tuple[list[Tensor], list[float]]:
    """Project ``targets [B, 3, size, size]`` in [-1, 1]; return styles (as ``generator.styles``) and a loss per step.

    The optimisation starts at the mean style. A Gaussian prior with the diagonal covariance of random styles keeps
    styles plausible. Rows are independent of each other.
    """
    mean, variance = style_statistics(generator, recipe.samples)
    lengths = [layer.conv.weight.shape[2] for layer, _ in generator.layers()]
    flat = mean.expand(len(targets), -1).clone().requires_grad_(True)
    optimiser = torch.optim.Adam([flat], recipe.lr)
    history = []
    for step in range(recipe.steps):
        optimiser.param_groups[0]["lr"] = recipe.lr * (ramp(step / recipe.steps, 0.25, 0.05) if recipe.ramped else 1.0)
        with torch.enable_grad():
            images = generator.synthesis_from_styles(flat.split(lengths, 1))
            l2 = (images - targets).square().flatten(1).mean(1)
            gaussian = ((flat - mean).square() / variance).sum(1)
            total = recipe.perceptual_weight * loss(images, targets) + recipe.l2_weight * l2
            total = total + recipe.gaussian_weight * gaussian
            optimiser.zero_grad()
            total.sum().backward()
        optimiser.step()
        history.append(float(total.mean()))
    return [part.contiguous() for part in flat.detach().split(lengths, 1)], history
