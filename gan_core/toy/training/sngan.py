"""A small SNGAN on digits (Miyato et al. 2018): hinge loss, spectral norm in the discriminator, averaged weights."""

import copy
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.generators.sngan import SNGAN
from gan_core.loading import model_tensors
from gan_core.params import Params, TrainDigitsParams
from gan_core.toy.digits import Digits, digit_eyes, load_digits
from gan_core.training.log import Report
from gan_core.training.state import Resumable, move_average

TARGET = Path("data/models/digits.safetensors")
SCORES = Path("data/metrics/digits.json")
STATE = Path("data/training/digits.pt")
SAVE_EVERY = 100
SCORED = 1024


class Discriminator(nn.Module):
    """Digits ``[B, 1, S, S]`` -> one score each."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((1, width, 2), (width, 2 * width, 2), (2 * width, 2 * width, 1)):
            layers += [spectral_norm(nn.Conv2d(before, after, 3, stride, 1)), nn.LeakyReLU(0.1)]
        self.features = nn.Sequential(*layers)
        self.last = spectral_norm(nn.Linear(2 * width, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.features(images).sum((2, 3))).squeeze(1)


class GameState(Resumable):
    """Both players, the averaged generator and their optimisers; ``key`` names the parameters."""

    kept = ("generator", "average", "discriminator", "generator_optimiser", "discriminator_optimiser", "step")

    def __init__(self, params: TrainDigitsParams) -> None:
        torch.manual_seed(params.seed)
        self.generator = SNGAN(params.channels, image_channels=1, z_dim=params.z_dim).train()
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = Discriminator()
        betas = (0.0, 0.9)
        self.generator_optimiser = torch.optim.Adam(self.generator.parameters(), params.lr, betas)
        self.discriminator_optimiser = torch.optim.Adam(self.discriminator.parameters(), 2 * params.lr, betas)
        self.key = params.model_dump_json()
        self.step = 0


def train_digits(params: TrainDigitsParams, digits: Digits, state_path: Path, report: Report) -> SNGAN:
    """Train (or go on training) and return the averaged generator; step i follows from the seed and i alone."""
    state = GameState(params)
    state.load(state_path)
    while state.step < params.steps:
        stream = torch.Generator().manual_seed(params.seed * 1_000_003 + state.step)
        real = digits.images[torch.randint(len(digits.images), (params.batch_size,), generator=stream)]
        z = torch.randn(2, params.batch_size, params.z_dim, generator=stream)
        losses = play(state, real, z)
        state.step += 1
        move_average(state.average, state.generator, 0.5 ** (1 / min(params.ema_steps, 1 + state.step / 10)))
        if state.step % SAVE_EVERY == 0 or state.step == params.steps:
            z = torch.randn(32, params.z_dim, generator=torch.Generator().manual_seed(0))
            report(state.step * params.batch_size, losses, state.average.synthesis(z[:, None]))
            state.save(state_path)
    return state.average


def play(state: GameState, real: Tensor, z: Tensor) -> dict[str, float]:
    """One step of each player: ``real [B, 1, S, S]``, ``z [2, B, z_dim]``."""
    discriminator, generator = state.discriminator, state.generator
    with torch.no_grad():
        fake = generator.draw(z[0])
    against = torch.relu(1 - discriminator(real)).mean() + torch.relu(1 + discriminator(fake)).mean()
    state.discriminator_optimiser.zero_grad(set_to_none=True)
    against.backward()
    state.discriminator_optimiser.step()
    discriminator.requires_grad_(False)
    fooled = -discriminator(generator.draw(z[1])).mean()
    state.generator_optimiser.zero_grad(set_to_none=True)
    fooled.backward()
    state.generator_optimiser.step()
    discriminator.requires_grad_(True)
    return {"discriminator": against.item(), "generator": fooled.item()}


@torch.no_grad()
def score_digits(generator: SNGAN, digits: Digits) -> dict[str, float]:
    """How sure the discriminant is of the drawn digits, how evenly it sees all ten, and how far shapes are off.

    ``confidence``: mean largest probability; ``classes``: the effective number of digits; ``shape_gap``: mean
    difference of the attributes' means between drawn and real digits, in shares of their ranges.
    """
    eyes = digit_eyes(digits)
    z = torch.randn(SCORED, generator.z_dim, generator=torch.Generator().manual_seed(1))
    images = generator.synthesis(z[:, None])
    beliefs = eyes.identity(images).square()
    mean = beliefs.mean(0).clamp_min(1e-9)
    gap = (eyes.attributes(images).mean(0) - eyes.attributes(digits.images).mean(0)).abs().mean()
    return {
        "confidence": beliefs.amax(1).mean().item(),
        "classes": float((-(mean * mean.log()).sum()).exp()),
        "shape_gap": gap.item(),
    }


def train(params: Params, report: Report) -> None:
    """Train the digits' generator, or go on where it was stopped; score and store it."""
    size = 4 * 2 ** (len(params.train_digits.channels) - 1)
    digits = load_digits(size)
    STATE.parent.mkdir(parents=True, exist_ok=True)
    generator = train_digits(params.train_digits, digits, STATE, report)
    scores = score_digits(generator, digits)
    card = Card(
        kind="generator",
        name=generator.family,
        arguments=generator.arguments,
        space="z",
        made_by="python -m flows.train_models digits",
        licence="Apache-2.0",
        source="trained on scikit-learn's digits (UCI, CC BY 4.0)",
        extra={"scores": scores, "params": params.train_digits.model_dump()},
    )
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(TARGET, model_tensors(generator), card)
    SCORES.parent.mkdir(parents=True, exist_ok=True)
    SCORES.write_text(json.dumps({key: round(value, 4) for key, value in scores.items()}, indent=2) + "\n")
    STATE.unlink(missing_ok=True)
