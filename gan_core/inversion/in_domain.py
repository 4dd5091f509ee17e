"""Domain-regularised optimisation (Zhu et al. 2020, section 3.3): latents that the encoder knows too."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gan_core.generators.base import Generator
from gan_core.geometry import framed_like
from gan_core.inversion.locality import Perceptual
from gan_core.stopping import check_stop

Encode = Callable[[Tensor], Tensor]
"""From images ``[B, 3, H, W]`` in [-1, 1] to ``w_plus [B, n_latent, w_dim]``."""


@dataclass(frozen=True)
class InDomain:
    """The settings of the optimisation; the defaults are the published ones, for features of VGG-16."""

    steps: int = 100
    lr: float = 0.01
    pixel_weight: float = 1.0
    feature_weight: float = 5e-5
    domain_weight: float = 2.0


class StepLosses(NamedTuple):
    """The losses before a step, each ``[B]``: the whole objective and its unweighted terms."""

    total: Tensor
    pixels: Tensor
    features: Tensor
    domain: Tensor


class InDomainOptimisation:
    """The state of an optimisation of B images from ``start [B, n_latent, w_dim]``, of which each row is its own.

    ``targets [B, 3, H, W]`` are in [-1, 1] and ``distance`` compares features. With ``mask`` (broadcast to images, 1:
    counts) only a part of each image is compared (semantic diffusion). ``encode`` sees what is drawn, unless
    ``recipe.domain_weight`` is 0.
    """

    def __init__(
        self,
        generator: Generator,
        encode: Encode,
        targets: Tensor,
        start: Tensor,
        distance: Perceptual,
        recipe: InDomain,
        mask: Tensor | None = None,
    ) -> None:
        self.generator, self.encode, self.distance, self.recipe = generator, encode, distance, recipe
        self.mask = torch.ones(()).to(targets) if mask is None else mask
        self.targets = targets
        self.latents = start.detach().clone().requires_grad_(True)
        self.optimiser = torch.optim.Adam([self.latents], recipe.lr)

    def losses(self) -> StepLosses:
        """Return the losses ``[B]`` of the current latents, as their gradients need them."""
        recipe, wanted = self.recipe, self.targets * self.mask
        drawn = framed_like(self.generator.synthesis(self.latents), self.targets)
        shown = drawn * self.mask
        pixels = (wanted - shown).square().flatten(1).mean(1)
        none = torch.zeros_like(pixels)
        features = self.distance(shown, wanted) if recipe.feature_weight else none
        domain = none
        if recipe.domain_weight:
            domain = (self.latents - self.encode(drawn)).square().flatten(1).mean(1)
        total = recipe.pixel_weight * pixels + recipe.feature_weight * features + recipe.domain_weight * domain
        return StepLosses(total, pixels, features, domain)

    def step(self) -> StepLosses:
        """Take a step of Adam, and return the losses ``[B]`` before it."""
        with torch.enable_grad():
            losses = self.losses()
            self.optimiser.zero_grad()
            losses.total.sum().backward()
        self.optimiser.step()
        return StepLosses(*(term.detach() for term in losses))


def optimise_in_domain(
    generator: Generator, encode: Encode, targets: Tensor, start: Tensor, distance: Perceptual, recipe: InDomain
) -> Tensor:
    """Return the latents ``[B, n_latent, w_dim]`` after ``recipe.steps`` from ``start``; each row is its own."""
    run = InDomainOptimisation(generator, encode, targets, start, distance, recipe)
    for _ in range(recipe.steps):
        check_stop()
        run.step()
    return run.latents.detach()
