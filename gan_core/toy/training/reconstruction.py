"""What an encoder learns from: batches with known latents, the networks of the losses, and scores on portraits."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from gan_core.device import place
from gan_core.encoders.base import Encoder
from gan_core.generators.base import Generator
from gan_core.judges.networks import load_network
from gan_core.judges.perceptual import PerceptualLoss, load_perceptual
from gan_core.loading import load_generator
from gan_core.params import ModelPaths
from gan_core.toy.training.portraits import PortraitSet


@dataclass(frozen=True)
class LossNetworks:
    """The frozen networks that an encoder's losses take, and how wide the generator's latents spread."""

    generator: Generator
    perceptual: PerceptualLoss
    identity: nn.Module
    latent_variance: float

    @classmethod
    def load(cls, models: ModelPaths) -> "LossNetworks":
        """Load them from their checkpoints."""
        return cls.of(
            load_generator(models.generator).model,
            load_perceptual(models.perceptual).model,
            load_network(models.identity, "identity").model,
        )

    @classmethod
    def of(cls, generator: Generator, perceptual: PerceptualLoss, identity: nn.Module) -> "LossNetworks":
        """Measure the latents' variance from 4096 samples."""
        z = torch.randn(4096, generator.z_dim, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            variance = generator.mapping(place(z)).var(0).mean().item()
        return cls(generator, perceptual, identity, variance)


@dataclass(frozen=True)
class Batch:
    """Images ``[B, 3, S, S]``; the first ``len(w)`` of them have known latents, ``w [N, w_dim]`` or ``w_plus``.

    ``inputs [B, C, S, S]`` is what the encoder sees, where that isn't the images that are to come out.
    """

    images: Tensor
    w: Tensor
    inputs: Tensor | None = None

    @property
    def seen(self) -> Tensor:
        """What the encoder sees."""
        return self.images if self.inputs is None else self.inputs


class TrainingTask:
    """Builds training and evaluation batches of one task; this one is inversion, from a picture back to itself."""

    def draw(
        self, portraits: PortraitSet, generator: Generator, size: int, sampled: int, stream: torch.Generator
    ) -> Batch:
        """Draw a batch to learn from, ``sampled`` of it pictures of the generator."""
        return draw_batch(portraits, generator, size, sampled, stream)

    def show(self, portraits: PortraitSet, rows: NDArray[np.int64]) -> Batch:
        """Return the given portraits as a batch to be scored by, always the same."""
        return Batch(place(portraits.images(rows)), torch.zeros(0))

    def visible(self, inputs: Tensor) -> Tensor:
        """What the encoder sees ``[B, C, S, S]`` as pictures ``[B, 3, S, S]``."""
        return inputs


INVERSION = TrainingTask()


def draw_batch(portraits: PortraitSet, generator: Generator, size: int, sampled: int, stream: torch.Generator) -> Batch:
    """Draw ``sampled`` pictures of the generator; the rest are portraits, mirrored and resampled at random."""
    with torch.no_grad():
        w = generator.mapping(place(torch.randn(sampled, generator.z_dim, generator=stream)))
        drawn = generator.synthesis(generator.broadcast(w)).clamp(-1, 1)
    if sampled == size:
        return Batch(drawn, w)
    rows = torch.randint(len(portraits), (size - sampled,), generator=stream).numpy()
    return Batch(torch.cat([drawn, resample(place(portraits.images(rows)), stream)]), w)


def resample(images: Tensor, stream: torch.Generator) -> Tensor:
    """Mirror half of the images, and shift, turn and scale all a little: crops of real files are never pixel-exact."""
    count = len(images)
    shift, turn, scale = torch.randn(count, 4, generator=stream).mul(0.01).split([2, 1, 1], 1)
    mirror = torch.randint(2, (count, 1), generator=stream) * 2.0 - 1
    cos, sin, scale = turn.cos(), turn.sin(), 1 + scale
    rows = [torch.cat([scale * cos * mirror, -scale * sin, shift[:, :1]], 1)]
    rows += [torch.cat([scale * sin * mirror, scale * cos, shift[:, 1:]], 1)]
    grid = affine_grid(torch.stack(rows, 1).to(images.device), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def evaluate(
    encoder: Encoder,
    networks: LossNetworks,
    portraits: PortraitSet,
    count: int | None = None,
    task: TrainingTask = INVERSION,
) -> dict[str, float]:
    """Return what ``evaluate_pictures`` finds of an encoder's last pass."""
    return evaluate_pictures(
        lambda seen: encoder.inversions(seen, networks.generator)[-1][1], networks, portraits, count, task
    )


@torch.no_grad()
def evaluate_pictures(
    draw: Callable[[Tensor], Tensor],
    networks: LossNetworks,
    portraits: PortraitSet,
    count: int | None = None,
    task: TrainingTask = INVERSION,
) -> dict[str, float]:
    """Mean scores over the first ``count`` portraits (all by default) of what ``draw`` makes of what ``task`` shows.

    mse and psnr on [-1, 1] (peak 2), the perceptual distance by its name, and identity_toy.
    """
    count = min(count or len(portraits), len(portraits))
    sums = torch.zeros(4, dtype=torch.float64)
    for rows in torch.arange(count).split(32):
        batch = task.show(portraits, rows.numpy())
        images = batch.images
        drawn = draw(batch.seen).clamp(-1, 1)
        mse = (drawn - images).square().mean((1, 2, 3)).cpu().double()
        cosine = (networks.identity(drawn) * networks.identity(images)).sum(1)
        psnr = 10 * torch.log10(4 / mse)
        sums += torch.stack([mse.sum(), psnr.sum(), networks.perceptual(drawn, images).sum().cpu(), cosine.sum().cpu()])
    names = ("mse", "psnr", networks.perceptual.name, "identity_toy")
    return dict(zip(names, (sums / count).tolist(), strict=True))


@torch.no_grad()
def picture_grid(
    draw: Callable[[Tensor], Tensor], portraits: PortraitSet, count: int = 16, task: TrainingTask = INVERSION
) -> Tensor:
    """The first ``count`` portraits as ``task`` shows them, each row of eight followed by what ``draw`` makes of them.

    ``[2 count, 3, H, W]``
    """
    batch = task.show(portraits, torch.arange(count).numpy())
    seen = task.visible(batch.seen)
    return torch.cat([torch.cat(pair) for pair in zip(seen.split(8), draw(batch.seen).split(8), strict=True)])
