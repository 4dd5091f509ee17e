"""StyleGAN2 on the toy portraits: a paired warm-up, then the adversarial game (Karras et al. 2020).

The renderer knows the factors of each portrait. The warm-up gives every portrait the latent whose first coordinates, on
a fixed orthonormal basis, are its factors as Gaussian noise, and regresses the image; this takes minutes where the game
alone takes hours on a CPU. The game then runs with the published losses, the pair loss staying on as an anchor.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.device import place
from gan_core.generators.base import Generator
from gan_core.generators.discriminator import Discriminator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.judges.perceptual import PerceptualLoss, load_perceptual
from gan_core.params import Params
from gan_core.precision import autocast, set_precision
from gan_core.sections import Precision
from gan_core.toy.gan_params import TrainGeneratorParams
from gan_core.toy.renderer import FACTORS
from gan_core.toy.training.game import play, sample_grid, take_step
from gan_core.toy.training.gan_scores import held_out_distance
from gan_core.toy.training.portraits import PortraitSet, gaussian_from_factors, load_portraits
from gan_core.training.fit import Course, fit
from gan_core.training.log import Report
from gan_core.training.losses import path_length_penalty, path_lengths, pyramid_loss
from gan_core.training.state import Resumable


def factor_basis(n_factors: int, z_dim: int) -> Tensor:
    """Orthonormal rows ``[F, z_dim]`` on which a latent's coordinates are a portrait's factors."""
    square = torch.randn(z_dim, z_dim, generator=torch.Generator().manual_seed(20), dtype=torch.float64)
    return torch.linalg.qr(square).Q[:n_factors].float()


def paired_latents(gaussian: Tensor, z_dim: int, generator: torch.Generator | None = None) -> Tensor:
    """Complete factors-as-noise ``[B, F]`` to latents ``[B, z_dim]`` of norm sqrt(z_dim), the rest random.

    On that sphere the mapping's pixel normalisation is the identity, so the pair is exact.
    """
    basis = factor_basis(gaussian.shape[1], z_dim)
    free = torch.randn(len(gaussian), z_dim, generator=generator)
    free = free - free @ basis.T @ basis
    room = (z_dim - gaussian.square().sum(1)).clamp_min(1e-3)
    return gaussian @ basis + free * (room / free.square().sum(1)).sqrt()[:, None]


@dataclass(frozen=True)
class Pairs:
    """Latents ``[B, z_dim]``, the portraits they stand for, and where those matter most ``[B, 1, H, W]``."""

    z: Tensor
    image: Tensor
    weight: Tensor


@dataclass(frozen=True)
class PairDistance:
    """How far pictures are from the portraits of their latents: ``pyramid_loss``, and LPIPS with a weight."""

    perceptual: PerceptualLoss
    perceptual_weight: float
    precision: Precision

    def __call__(self, images: Tensor, pairs: Pairs) -> Tensor:
        """Return the mean over images ``[B, 3, H, W]``."""
        loss = pyramid_loss(images, pairs.image, pairs.weight)
        if self.perceptual_weight:
            with autocast(self.precision == "fast"):
                loss = loss + self.perceptual_weight * self.perceptual(images, pairs.image).mean()
        return loss


@dataclass
class GanState(Resumable):
    """Both players, the averaged generator and their optimisers."""

    kept = (
        "generator",
        "average",
        "discriminator",
        "generator_optimiser",
        "discriminator_optimiser",
        "seen",
        "mean_length",
    )
    generator: StyleGAN2
    average: StyleGAN2
    discriminator: Discriminator
    generator_optimiser: torch.optim.Adam
    discriminator_optimiser: torch.optim.Adam
    key: str
    seen: int = 0
    mean_length: Tensor = field(default_factory=lambda: place(torch.zeros(())))

    @classmethod
    def create(cls, params: TrainGeneratorParams) -> "GanState":
        """Fresh networks and optimisers from ``params.seed``."""
        torch.manual_seed(params.seed)
        generator = StyleGAN2(params.size, params.style_dim, params.n_mlp, channels=params.channels)
        _start_from_factors(generator)
        discriminator = Discriminator(params.size, channels=params.discriminator_channels)
        for network in (generator, discriminator):
            set_precision(place(network), params.precision)
        return cls(
            generator,
            copy.deepcopy(generator).eval().requires_grad_(False),
            discriminator,
            torch.optim.Adam(_parameter_groups(generator), params.paired_lr, betas=(0.9, 0.99)),
            torch.optim.Adam(discriminator.parameters(), params.discriminator_lr, betas=(0.0, 0.99)),
            key=params.model_dump_json(),
        )

    def averaged(self) -> tuple[nn.Module, nn.Module]:
        return self.average, self.generator


def train_generator(
    params: TrainGeneratorParams,
    portraits: PortraitSet,
    perceptual: PerceptualLoss,
    state_path: Path,
    report: Report,
    score: Callable[[Generator], dict[str, float]],
    report_every: int = 10_000,
) -> StyleGAN2:
    """Train (or go on training) and return the averaged generator, ``latent_avg`` set.

    ``report`` is called every ``report_every`` images with the losses and what ``score`` finds.
    """
    state, distance = GanState.create(params), PairDistance(perceptual, params.perceptual_weight, params.precision)
    gaussian = gaussian_from_factors(torch.from_numpy(portraits.factors.copy()))

    def step(stream: torch.Generator) -> dict[str, float]:
        rows = torch.randint(len(portraits), (params.batch_size,), generator=stream).numpy()
        z = place(paired_latents(gaussian[rows], params.style_dim, stream))
        pairs = Pairs(z, place(portraits.images(rows)), place(portraits.weights(rows, params)))
        _set_learning_rate(state, params)
        return (
            _warm_up_step(state, distance, pairs)
            if state.seen < params.paired_images
            else _game_step(state, params, distance, pairs)
        )

    total = params.paired_images + params.adversarial_images
    course = Course(total, params.batch_size, params.seed, report_every, params.ema_images)
    fit(state, course, step, report, lambda: (score(state.average), sample_grid(state.average)), state_path)
    state.average.latent_avg = state.average.mean_latent(20_000)
    return state.average


@torch.no_grad()
def _start_from_factors(generator: StyleGAN2) -> None:
    """Let the mapping's first layer see a latent's factors only: the rest is noise that no pair explains."""
    basis = factor_basis(len(FACTORS), generator.z_dim)
    first = generator.get_parameter("style.1.weight")
    first.copy_(first @ basis.T @ basis * math.sqrt(generator.z_dim / len(FACTORS)))


def _parameter_groups(generator: StyleGAN2) -> list[dict[str, Any]]:
    """The mapping apart: its equalised rate of 0.01 is undone in the warm-up, where it has a target to find."""
    return [
        {"params": [p for name, p in generator.named_parameters() if not name.startswith("style.")], "share": 1.0},
        {"params": generator.style.parameters(), "share": 100.0},
    ]


def _set_learning_rate(state: GanState, params: TrainGeneratorParams) -> None:
    """Warm-up: momentum, a cosine from ``paired_lr`` to 5 %. Game: no momentum, slowing down in the last third."""
    paired = state.seen < params.paired_images
    share = state.seen / max(params.paired_images, 1)
    warm = params.paired_lr * (0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * share)))
    left = (params.paired_images + params.adversarial_images - state.seen) / max(params.adversarial_images, 1)
    slowed = min(1.0, 3 * left)
    for group in state.generator_optimiser.param_groups:
        group["lr"] = warm * group["share"] if paired else params.lr * slowed
        group["betas"] = (0.9 if paired else 0.0, 0.99)
    for group in state.discriminator_optimiser.param_groups:
        group["lr"] = params.discriminator_lr * slowed


def _warm_up_step(state: GanState, distance: PairDistance, pairs: Pairs) -> dict[str, float]:
    loss = distance(state.generator(pairs.z, noise="none"), pairs)
    take_step(state.generator_optimiser, loss, state.generator)
    return {"pair": loss.item()}


def _game_step(state: GanState, params: TrainGeneratorParams, distance: PairDistance, pairs: Pairs) -> dict[str, float]:
    """Let both players see the same pictures: those of the pairs or, a share ``mixing`` of the time, of mixed codes.

    A picture of mixed codes has no portrait to be compared with, so the pair loss rests in these steps.
    """
    generator, step = state.generator, state.seen // params.batch_size
    mixed = bool(torch.rand(()) < params.mixing)
    w_plus = _mixed_codes(generator, len(pairs.z)) if mixed else generator.broadcast(generator.mapping(pairs.z))
    images = generator.synthesis(w_plus, noise="random")
    players = state.discriminator, state.discriminator_optimiser
    loss, found = play(*players, pairs.image, images, params, step)
    if not mixed:
        pair = distance(images, pairs)
        loss, found["pair"] = loss + params.pair_weight * pair, pair.item()
    if params.path_length_weight and step % params.path_length_every == 0:
        penalty = _path_length(state, max(params.batch_size // 2, 1))
        loss, found["path_length"] = (
            loss + params.path_length_weight * params.path_length_every * penalty,
            penalty.item(),
        )
    take_step(state.generator_optimiser, loss, generator)
    return found


def _mixed_codes(generator: StyleGAN2, batch: int) -> Tensor:
    """Codes ``w_plus`` of random latents, two of them mixed at a random layer."""
    first, second = (generator.mapping(place(torch.randn(batch, generator.z_dim))) for _ in range(2))
    return generator.mix(first, second, int(torch.randint(1, generator.n_latent, ())))


def _path_length(state: GanState, batch: int) -> Tensor:
    generator = state.generator
    w_plus = generator.broadcast(generator.mapping(place(torch.randn(batch, generator.z_dim)))).contiguous()
    penalty, state.mean_length = path_length_penalty(
        path_lengths(generator.synthesis(w_plus, "random"), w_plus), state.mean_length
    )
    return penalty


def make_generator(chosen: TrainGeneratorParams, params: Params, folder: Path, report: Report) -> dict[str, float]:
    """Train the generator, or go on in ``folder``; store it, and return its distance to the held-out portraits."""
    score = held_out_distance(load_portraits("held_out"), params.models)
    perceptual = load_perceptual(params.models.perceptual).model
    generator = train_generator(chosen, load_portraits("train"), perceptual, folder / "state.pt", report, score)
    scores = score(generator)
    card = Card(
        kind="generator",
        name="stylegan2",
        arguments=generator.arguments,
        space="w_plus",
        made_by="python -m tasks.train train-generator",
        licence="Apache-2.0",
        source="trained on the toy portraits of this project",
        notes=f"{chosen.paired_images} images of paired warm-up, {chosen.adversarial_images} of the adversarial game",
        extra=scores,
    )
    save_checkpoint(params.models.generator, generator.state_dict() | {"latent_avg": generator.latent_avg}, card)
    return scores
