"""pSp's rival pix2pixHD on the toy portraits: the same pairs and the same loop as a translation's encoder."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.device import place
from gan_core.precision import autocast
from gan_core.toy.params import TrainPix2PixParams
from gan_core.toy.training.portraits import PortraitSet
from gan_core.toy.training.reconstruction import Batch, LossNetworks, evaluate_pictures, picture_grid
from gan_core.toy.training.translation import TranslationTraining
from gan_core.training.fit import Course, fit
from gan_core.training.log import Report
from gan_core.training.schedule import set_rate
from gan_core.training.state import Resumable
from gan_core.translation.pix2pix import GlobalGenerator, Maps, MultiscaleDiscriminator

VALIDATED = 128
FEATURES = 4.0
"""As published, features are weighed by this over the layers of a discriminator, so that their number counts less."""


@dataclass
class Pix2PixState(Resumable):
    """A translator in training, its running average, and the discriminator that it plays against."""

    kept = ("network", "average", "optimiser", "discriminator", "discriminator_optimiser", "seen", "seconds")
    network: GlobalGenerator
    average: GlobalGenerator
    optimiser: torch.optim.Adam
    discriminator: MultiscaleDiscriminator
    discriminator_optimiser: torch.optim.Adam
    key: str
    seen: int = 0
    seconds: float = 0.0

    @classmethod
    def create(cls, task: TranslationTraining, params: TrainPix2PixParams) -> "Pix2PixState":
        """Begin a translator for the inputs of ``task``."""
        torch.manual_seed(params.seed)
        channels = task.transform.channels
        network = place(GlobalGenerator(channels, **params.network))
        discriminator = place(MultiscaleDiscriminator(channels + 3, **params.discriminator))
        for each in (network, discriminator):
            each.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = copy.deepcopy(network).eval().requires_grad_(False)
        optimisers = [
            torch.optim.Adam(each.parameters(), rate, (0.5, 0.999))
            for each, rate in ((network, params.lr), (discriminator, params.discriminator_lr))
        ]
        key = f"pix2pix {task.task.name} {params.model_dump_json(exclude={'images'})}"
        return cls(network, average, optimisers[0], discriminator, optimisers[1], key)

    def averaged(self) -> tuple[nn.Module, nn.Module]:
        return self.average, self.network


def train_pix2pix(
    task: TranslationTraining,
    params: TrainPix2PixParams,
    networks: LossNetworks,
    portraits: PortraitSet,
    held_out: PortraitSet,
    state_path: Path,
    report: Report,
    report_every: int = 5_000,
) -> Pix2PixState:
    """Train (or go on training) a translator for ``params.images``; its rate stays, so that it can go on later."""
    state = Pix2PixState.create(task, params)
    course = Course(params.images, params.batch_size, params.seed, report_every, params.ema_images, endless=True)

    def show() -> tuple[dict[str, float], Tensor]:
        scores = evaluate_pictures(state.average, networks, held_out, VALIDATED, task)
        return {f"held_out/{name}": value for name, value in scores.items()}, picture_grid(
            state.average, held_out, task=task
        )

    def step(stream: torch.Generator) -> dict[str, float]:
        batch = task.draw(portraits, networks.generator, params.batch_size, 0, stream)
        rate = course.rate(state.seen // params.batch_size)
        set_rate(state.optimiser, params.lr * rate)
        set_rate(state.discriminator_optimiser, params.discriminator_lr * rate)
        return train_step(state, params, networks, batch)

    fit(state, course, step, report, show, state_path)
    return state


def train_step(
    state: Pix2PixState, params: TrainPix2PixParams, networks: LossNetworks, batch: Batch
) -> dict[str, float]:
    """Let the translator take a step, and then the discriminator; return the losses."""
    fast = params.precision == "fast"
    with autocast(fast):
        made = state.network(batch.seen).float()
        real = state.discriminator(torch.cat([batch.seen, batch.images], 1))
        state.discriminator.requires_grad_(False)
        seen = state.discriminator(torch.cat([batch.seen, made], 1))
        state.discriminator.requires_grad_(True)
        distance = networks.perceptual(made, batch.images).mean()
    game, features = least_squares(seen, 1.0), feature_distance(seen, real)
    loss = game + params.feature_weight * features + params.perceptual_weight * distance
    _take(state.optimiser, loss)
    with autocast(fast):
        fake = state.discriminator(torch.cat([batch.seen, made.detach()], 1))
    judged = (least_squares(real, 1.0) + least_squares(fake, 0.0)) / 2
    _take(state.discriminator_optimiser, judged)
    names = ("adversarial", "features", "perceptual", "discriminator")
    return dict(zip(names, torch.stack([game, features, distance, judged]).tolist(), strict=True))


def least_squares(scales: Sequence[Maps], target: float) -> Tensor:
    """Sum over scales of the mean squared distance of the patches' scores from ``target`` (Mao et al. 2017)."""
    return torch.stack([(maps[-1].float() - target).square().mean() for maps in scales]).sum()


def feature_distance(made: Sequence[Maps], real: Sequence[Maps]) -> Tensor:
    """Mean absolute difference of the discriminators' maps of made and real images (equation 4), as published."""
    terms = [
        FEATURES / len(maps[:-1]) * F.l1_loss(found.float(), wanted.detach().float())
        for maps, others in zip(made, real, strict=True)
        for found, wanted in zip(maps[:-1], others[:-1], strict=True)
    ]
    return torch.stack(terms).sum() / len(made)


def _take(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
