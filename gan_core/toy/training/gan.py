"""StyleGAN2 on the toy portraits: a paired warm-up, then the adversarial game (Karras et al. 2020).

The renderer knows the factors of each portrait. The warm-up gives every portrait the latent whose first coordinates, on
a fixed orthonormal basis, are its factors as Gaussian noise, and regresses the image; this takes minutes where the game
alone takes hours on a CPU. The game then runs with the published losses, the pair loss staying on as an anchor.

``python -m flows.train_models generator`` trains what ``params.yaml`` asks for and resumes where it was stopped.
"""

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.generators.base import Generator
from gan_core.generators.discriminator import Discriminator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.params import Params, TrainCelParams, TrainGeneratorParams
from gan_core.precision import set_precision
from gan_core.toy.renderer import FACTORS
from gan_core.toy.training.gan_scores import held_out_distance
from gan_core.toy.training.portraits import PortraitSet, gaussian_from_factors, load_portraits
from gan_core.training.log import Report
from gan_core.training.losses import (
    logistic_discriminator_loss,
    nonsaturating_generator_loss,
    path_length_penalty,
    path_lengths,
    pyramid_loss,
    r1_penalty,
)
from gan_core.training.state import Resumable, move_average

SAVE_SECONDS = 90


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
    key: str = ""
    seen: int = 0
    mean_length: Tensor = field(default_factory=lambda: torch.zeros(()))

    @classmethod
    def create(cls, params: TrainGeneratorParams) -> "GanState":
        """Fresh networks and optimisers from ``params.seed``."""
        torch.manual_seed(params.seed)
        generator = StyleGAN2(params.size, params.style_dim, params.n_mlp, channels=params.channels)
        _start_from_factors(generator)
        discriminator = Discriminator(params.size, channels=params.discriminator_channels)
        for network in (generator, discriminator):
            set_precision(network, params.precision)
        return cls(
            generator,
            copy.deepcopy(generator).eval().requires_grad_(False),
            discriminator,
            torch.optim.Adam(_parameter_groups(generator), params.paired_lr, betas=(0.9, 0.99)),
            torch.optim.Adam(discriminator.parameters(), params.discriminator_lr, betas=(0.0, 0.99)),
        )


def train_generator(
    params: TrainGeneratorParams,
    portraits: PortraitSet,
    state_path: Path,
    report: Report,
    score: Callable[[Generator], dict[str, float]],
    report_every: int = 10_000,
) -> StyleGAN2:
    """Train (or go on training) and return the averaged generator, ``latent_avg`` set.

    ``state_path`` is rewritten about every 90 seconds. ``report`` is called every ``report_every`` images with the
    losses and what ``score`` finds.
    """
    state = GanState.create(params)
    state.load(state_path)
    total = params.paired_images + params.adversarial_images
    gaussian = gaussian_from_factors(torch.from_numpy(portraits.factors.copy()))
    saved = time.monotonic()
    losses: dict[str, float] = {}
    while state.seen < total:
        rows = torch.randint(len(portraits), (params.batch_size,)).numpy()
        real, z = portraits.images(rows), paired_latents(gaussian[rows], params.style_dim)
        pairs = Pairs(z, real, 1 + params.feature_weight * portraits.features(rows))
        _set_learning_rate(state, params)
        losses |= _warm_up_step(state, pairs) if state.seen < params.paired_images else _game_step(state, params, pairs)
        _average(state, params)
        before, state.seen = state.seen, state.seen + params.batch_size
        if before // report_every != state.seen // report_every or state.seen >= total:
            report(state.seen, losses | score(state.average), sample_grid(state.average))
        if time.monotonic() - saved > SAVE_SECONDS or state.seen >= total:
            state.save(state_path)
            saved = time.monotonic()
    state.average.latent_avg = state.average.mean_latent(20_000)
    return state.average


def sample_grid(generator: StyleGAN2, count: int = 32) -> Tensor:
    """Images ``[count, 3, H, W]`` of a fixed set of latents, noise buffers constant."""
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return generator(z)


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


def _warm_up_step(state: GanState, pairs: Pairs) -> dict[str, float]:
    loss = pyramid_loss(state.generator(pairs.z, noise="none"), pairs.image, pairs.weight)
    take_step(state.generator_optimiser, loss, state.generator)
    return {"pair": loss.item()}


def _game_step(state: GanState, params: TrainGeneratorParams, pairs: Pairs) -> dict[str, float]:
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
        pair = pyramid_loss(images, pairs.image, pairs.weight)
        loss, found["pair"] = loss + params.pair_weight * pair, pair.item()
    if params.path_length_weight and step % params.path_length_every == 0:
        penalty = _path_length(state, max(params.batch_size // 2, 1))
        loss, found["path_length"] = (
            loss + params.path_length_weight * params.path_length_every * penalty,
            penalty.item(),
        )
    take_step(state.generator_optimiser, loss, generator)
    return found


def play(
    discriminator: Discriminator,
    optimiser: torch.optim.Optimizer,
    real: Tensor,
    images: Tensor,
    params: TrainGeneratorParams | TrainCelParams,
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
    params: TrainGeneratorParams | TrainCelParams,
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


def _mixed_codes(generator: StyleGAN2, batch: int) -> Tensor:
    """Codes ``w_plus`` of random latents, two of them mixed at a random layer."""
    first, second = (generator.mapping(torch.randn(batch, generator.z_dim)) for _ in range(2))
    return generator.mix(first, second, int(torch.randint(1, generator.n_latent, ())))


def _path_length(state: GanState, batch: int) -> Tensor:
    generator = state.generator
    w_plus = generator.broadcast(generator.mapping(torch.randn(batch, generator.z_dim))).contiguous()
    penalty, state.mean_length = path_length_penalty(
        path_lengths(generator.synthesis(w_plus, "random"), w_plus), state.mean_length
    )
    return penalty


def take_step(optimiser: torch.optim.Optimizer, loss: Tensor, network: nn.Module) -> None:
    """Step down the gradient of a loss, clipped to a norm of 10; raises ``RuntimeError`` where it isn't finite."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 10.0, error_if_nonfinite=True)
    optimiser.step()


def _average(state: GanState, params: TrainGeneratorParams) -> None:
    """Exponential moving average with a half-life of ``ema_images``, shorter while little was seen."""
    half_life = min(params.ema_images, max(state.seen * 0.05, 1))
    move_average(state.average, state.generator, 0.5 ** (params.batch_size / half_life))


def train(params: Params, report: Report) -> None:
    """Train the generator of ``params`` and store it with its distance to the held-out portraits."""
    state_path = Path("data/training/generator.pt")
    state_path.parent.mkdir(parents=True, exist_ok=True)
    score = held_out_distance(load_portraits("held_out"), params.models)
    chosen = params.train_generator
    generator = train_generator(chosen, load_portraits("train"), state_path, report, score)
    scores = score(generator)
    card = Card(
        kind="generator",
        name="stylegan2",
        arguments=generator.arguments,
        space="w_plus",
        made_by="python -m flows.train_models generator",
        licence="Apache-2.0",
        source="trained on the toy portraits of this project",
        notes=f"{chosen.paired_images} images of paired warm-up, {chosen.adversarial_images} of the adversarial game",
        extra=scores,
    )
    save_checkpoint(params.models.generator, generator.state_dict() | {"latent_avg": generator.latent_avg}, card)
    Path("data/metrics/generator.json").write_text(json.dumps(scores, indent=2) + "\n")
