"""A small SNGAN on digits (Miyato et al. 2018): hinge loss, spectral norm in the discriminator, averaged weights."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.device import place
from gan_core.generators.sngan import SNGAN
from gan_core.loading import model_tensors
from gan_core.params import Params
from gan_core.toy.digits import Digits, digit_scorers, load_digits
from gan_core.toy.params import TrainDigitsParams
from gan_core.training.fit import Course, fit
from gan_core.training.log import Report
from gan_core.training.state import Resumable

TARGET = Path("data/models/digits.safetensors")
REPORT_STEPS = 100
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

    kept = ("generator", "average", "discriminator", "generator_optimiser", "discriminator_optimiser", "seen")

    def __init__(self, params: TrainDigitsParams) -> None:
        torch.manual_seed(params.seed)
        self.generator = place(SNGAN(params.channels, image_channels=1, z_dim=params.z_dim).train())
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = place(Discriminator())
        betas = (0.0, 0.9)
        self.generator_optimiser = torch.optim.Adam(self.generator.parameters(), params.lr, betas)
        self.discriminator_optimiser = torch.optim.Adam(self.discriminator.parameters(), 2 * params.lr, betas)
        self.key = params.model_dump_json()
        self.seen = 0

    def averaged(self) -> tuple[nn.Module, nn.Module]:
        return self.average, self.generator


def train_digits(params: TrainDigitsParams, digits: Digits, state_path: Path, report: Report) -> SNGAN:
    """Train (or go on training) and return the averaged generator."""
    state, batch = GameState(params), params.batch_size
    course = Course(params.steps * batch, batch, params.seed, REPORT_STEPS * batch, params.ema_steps * batch)

    def step(stream: torch.Generator) -> dict[str, float]:
        real = digits.images[torch.randint(len(digits.images), (batch,), generator=stream)]
        return play(state, place(real), place(torch.randn(2, batch, params.z_dim, generator=stream)))

    def show() -> tuple[dict[str, float], Tensor]:
        z = place(torch.randn(32, params.z_dim, generator=torch.Generator().manual_seed(0)))
        return {}, state.average.synthesis(z[:, None])

    fit(state, course, step, report, show, state_path)
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
    scorers = digit_scorers(digits)
    z = torch.randn(SCORED, generator.z_dim, generator=torch.Generator().manual_seed(1))
    images = generator.synthesis(place(z)[:, None])
    beliefs = scorers.identity(images).square()
    mean = beliefs.mean(0).clamp_min(1e-9)
    gap = (scorers.attributes(images).mean(0) - scorers.attributes(place(digits.images)).mean(0)).abs().mean()
    return {
        "confidence": beliefs.amax(1).mean().item(),
        "classes": float((-(mean * mean.log()).sum()).exp()),
        "shape_gap": gap.item(),
    }


def make_digits(chosen: TrainDigitsParams, params: Params, folder: Path, report: Report) -> dict[str, float]:
    """Train the digits' generator, or go on in ``folder``; store it, and return its scores."""
    digits = load_digits(4 * 2 ** (len(chosen.channels) - 1))
    generator = train_digits(chosen, digits, folder / "state.pt", report)
    scores = {name: round(value, 4) for name, value in score_digits(generator, digits).items()}
    card = Card(
        kind="generator",
        name=generator.family,
        arguments=generator.arguments,
        space="z",
        made_by="python -m tasks.train train-digits",
        licence="Apache-2.0",
        source="trained on scikit-learn's digits (UCI, CC BY 4.0)",
        extra={"scores": scores, "params": chosen.model_dump()},
    )
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(TARGET, model_tensors(generator), card)
    return scores
