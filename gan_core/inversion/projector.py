"""Projection by optimisation: find the W or W+ code and the noise of an image (Karras et al. 2020, appendix D)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.capture import Repeated
from gan_core.device import send
from gan_core.generators.base import Generator
from gan_core.geometry import framed_like
from gan_core.inversion.locality import Perceptual
from gan_core.inversion.schedule import ramp
from gan_core.stopping import check_stop

Space = Literal["w", "w_plus"]
RAMPDOWN, RAMPUP, NOISE_RAMP, NOISE_SHARE = 0.25, 0.05, 0.75, 0.05
"""The published schedule: shares of the steps, and the size of the noise on latents in their deviations."""
LARGEST = 256
"""Side in pixels at which images are compared, as published."""
TOGETHER = 4
"""Rows are padded to a multiple of this, because convolutions round differently for smaller batches."""
SEED = 123
"""The seed of the latents whose mean a projection begins with, as published."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a projection; the defaults are rosinality's, and ``PTI`` has those of pivotal tuning.

    What is found is one latent for all layers (``space`` ``"w"``) or one for each (``"w_plus"``), in ``steps`` of Adam
    with the highest rate ``lr``. The objective is the sum of the perceptual distance, the mean squared error and the
    regulariser of the noise with their weights. The initial latent is the mean over ``samples``. After each step noise
    maps are normalised by their standard deviation if ``unbiased``, or by their root mean square (ADA).
    """

    space: Space = "w"
    steps: int = 1000
    lr: float = 0.1
    samples: int = 10_000
    perceptual_weight: float = 1.0
    l2_weight: float = 0.0
    noise_weight: float = 1e5
    unbiased: bool = True


PTI = Recipe(steps=450, lr=0.01, samples=600, unbiased=False)
"""The settings of pivotal tuning as it is published, whose projector is that of StyleGAN2-ADA."""


class StepLosses(NamedTuple):
    """The losses before a step, each ``[B]``: the whole objective and its unweighted terms."""

    total: Tensor
    perceptual: Tensor
    l2: Tensor
    noise: Tensor


class Projection:
    """The state of a projection of B images: latents, noise maps and the optimiser.

    ``targets [B, 3, H, W]`` are in [-1, 1] (see ``project``), ``start [1 or n_latent, w_dim]`` is the mean latent,
    ``deviation`` the spread of latents around it, and ``noise`` has a map ``[B, 1, r, r]`` per layer. Rows affect each
    other by rounding only.
    """

    def __init__(
        self,
        generator: Generator,
        targets: Tensor,
        loss: Perceptual,
        recipe: Recipe,
        start: Tensor,
        deviation: float,
        noise: Sequence[Tensor],
    ) -> None:
        codes = generator.n_latent if recipe.space == "w_plus" else 1
        self.generator, self.loss, self.recipe, self.deviation = generator, loss, recipe, deviation
        self.wanted, self.targets = targets, shrink(targets)
        self.latents = start.expand(len(targets), codes, -1).clone().requires_grad_(True)
        self.noise = [part.clone().requires_grad_(True) for part in noise]
        self.repeated = Repeated(self._take)
        recorded = self.repeated.graphs is not None
        self.rate, self.offset = start.new_zeros(()), torch.zeros_like(self.latents, requires_grad=False)
        parts, lr = [self.latents, *self.noise], self.rate if recorded else recipe.lr
        self.optimiser = torch.optim.Adam(parts, lr, fused=True, capturable=recorded)

    @property
    def w_plus(self) -> Tensor:
        """The current latents ``[B, n_latent, w_dim]``."""
        return self.latents.detach().expand(-1, self.generator.n_latent, -1)

    def step(self, t: float, jitter: Tensor) -> StepLosses:
        """Take a step at time ``t`` (0 to 1).

        ``jitter [B, 1 or n_latent, w_dim]`` is standard normal noise for the latents. Returns the losses ``[B]`` before
        the step; a device overwrites them in the next one.
        """
        rate = self.recipe.lr * ramp(t, RAMPDOWN, RAMPUP)
        offset = jitter * self.deviation * jitter_share(t)
        if self.repeated.graphs is None:
            self.optimiser.param_groups[0]["lr"], self.offset = rate, offset.to(self.latents.device)
        else:
            send([rate], self.rate.view(1))
            send(offset, self.offset)
        return self.repeated()

    def _take(self) -> StepLosses:
        with torch.enable_grad():
            losses = self._losses(self.latents + self.offset)
            self.optimiser.zero_grad()
            losses.total.sum().backward()
        self.optimiser.step()
        with torch.no_grad():
            for part in self.noise:
                part.copy_(normalise(part, self.recipe.unbiased))
        return StepLosses(*(term.detach() for term in losses))

    def _losses(self, latents: Tensor) -> StepLosses:
        recipe = self.recipe
        images = self.generator.synthesis(latents.expand(-1, self.generator.n_latent, -1), self.noise)
        images = shrink(framed_like(images, self.wanted))
        l2 = (images - self.targets).square().flatten(1).mean(1)
        perceptual = self.loss(images, self.targets) if recipe.perceptual_weight else torch.zeros_like(l2)
        noise = sum((noise_regulariser(part) for part in self.noise), torch.zeros_like(l2))
        total = recipe.perceptual_weight * perceptual + recipe.l2_weight * l2 + recipe.noise_weight * noise
        return StepLosses(total, perceptual, l2, noise)


@torch.no_grad()
def project(
    generator: Generator, targets: Tensor, loss: Perceptual, recipe: Recipe, seeds: Sequence[int]
) -> tuple[Tensor, list[Tensor]]:
    """Find the latents and the noise of images by optimisation (Karras et al. 2020, appendix D).

    Returns ``w_plus [B, n_latent, w_dim]`` and the noise maps, ``[B, 1, r, r]`` for each layer.
    ``targets [B, 3, H, W]`` are in [-1, 1]. ``loss`` takes two batches of images in [-1, 1] and returns their
    perceptual distances ``[B]``, as ``load_perceptual`` gives one. ``recipe`` is a ``Recipe`` of
    ``gan_core.inversion.projector``, such as ``PTI`` there. Targets are as large as the generator's images, or smaller,
    or a frame of them (``gan_core.geometry``). ``seeds`` determine the noise of each row. Rows are projected together
    and padded to a multiple of ``TOGETHER``. Raises ``ValueError`` without targets, and for another number of seeds.
    """
    if not 0 < len(targets) == len(seeds):
        raise ValueError(f"{len(targets)} targets and {len(seeds)} seeds: give one seed for each target")
    rows = [*range(len(targets)), *[len(targets) - 1] * (-len(targets) % TOGETHER)]
    streams = [torch.Generator().manual_seed(seeds[row]) for row in rows]

    def draw(*shape: int) -> Tensor:
        return torch.stack([torch.randn(shape, generator=stream) for stream in streams])

    mean, deviation = latent_statistics(generator, recipe.samples)
    noise = [draw(1, size, size).to(targets.device) for size in generator.noise_sizes()]
    under_way = Projection(generator, targets[rows], loss, recipe, mean, deviation, noise)
    for step in range(recipe.steps):
        check_stop()
        under_way.step(step / recipe.steps, draw(*under_way.latents.shape[1:]))
    under_way.repeated.forget()
    return under_way.w_plus[: len(targets)], [part.detach()[: len(targets)] for part in under_way.noise]


@torch.no_grad()
def latent_statistics(generator: Generator, samples: int) -> tuple[Tensor, float]:
    """Return the mean of ``samples`` mapped latents, and their RMS distance from it.

    The mean is ``[1, w_dim]``, or ``[n_latent, w_dim]`` of a generator that maps to a latent for each layer.
    """
    z = torch.randn(samples, generator.z_dim, generator=torch.Generator().manual_seed(SEED))
    w = generator.mapping(z.to(generator.latent_avg.device)).unflatten(1, (-1, generator.w_dim))
    mean = w.mean(0)
    return mean, float((w - mean).square().sum().div(samples * len(mean)).sqrt())


def jitter_share(t: float) -> float:
    """Return the size of the noise on the latents at time ``t`` (0 to 1), in deviations of the latents."""
    return float(NOISE_SHARE * max(0.0, 1 - t / NOISE_RAMP) ** 2)


def noise_regulariser(noise: Tensor) -> Tensor:
    """Return the squared correlation ``[B]`` of maps ``[B, 1, r, r]`` with themselves shifted by one pixel.

    It is summed over an image pyramid down to 8 pixels.
    """
    total = noise.new_zeros(len(noise))
    while True:
        for axis in (3, 2):
            total = total + (noise * noise.roll(1, axis)).mean((1, 2, 3)).square()
        if noise.shape[2] <= 8:
            return total
        noise = F.avg_pool2d(noise, 2)


def normalise(noise: Tensor, unbiased: bool) -> Tensor:
    """Normalise each map ``[B, 1, r, r]`` to mean 0 and unit size, see ``Recipe``."""
    centred = noise - noise.mean((1, 2, 3), keepdim=True)
    if unbiased:
        return centred / noise.std((1, 2, 3), keepdim=True)
    return centred * centred.square().mean((1, 2, 3), keepdim=True).rsqrt()


def shrink(images: Tensor) -> Tensor:
    """Average images ``[B, 3, H, W]`` down to 256 pixels if they are larger, as both published projectors do."""
    factor = max(images.shape[2:]) // LARGEST
    return F.avg_pool2d(images, factor) if factor > 1 else images
