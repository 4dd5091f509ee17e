"""The generator's second style: the same latents drawn cel-shaded, mapping and modulation frozen (SOAT, section 1.9).

Latents of portraits are known by pairs (``gan_core.toy.training.gan``), so the style is regressed; alone that leaves
out most of the ink, which the adversarial phase of the published script brings back. Frozen mapping and modulation keep
one S space for both generators. Noise stays as well: otherwise training draws ink as specks of it.
"""

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.device import place
from gan_core.errors import CheckpointError
from gan_core.generators.base import Generator
from gan_core.generators.discriminator import Discriminator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_generator, model_tensors
from gan_core.params import Params
from gan_core.precision import set_precision
from gan_core.storage.atomic import write_bytes
from gan_core.storage.images import to_uint8
from gan_core.toy.gan_params import TrainCelParams
from gan_core.toy.renderer import cel
from gan_core.toy.renderer.cel import render_cel
from gan_core.toy.training.game import play, sample_grid, take_step
from gan_core.toy.training.gan import paired_latents
from gan_core.toy.training.gan_scores import held_out_distance
from gan_core.toy.training.portraits import (
    BATCH,
    FOLDER,
    MADE_FROM,
    PortraitSet,
    gaussian_from_factors,
    load_portraits,
    renderer_sha256,
)
from gan_core.training.fit import Course, fit
from gan_core.training.log import Report
from gan_core.training.losses import pyramid_loss
from gan_core.training.schedule import set_rate, warm_cosine
from gan_core.training.state import Resumable, fingerprint

FROZEN = ("style", "modulation", "noise")


@dataclass
class CelState(Resumable):
    """The generator of the second style; ``key`` names the parameters and the generator that it began with."""

    kept = ("generator", "average", "optimiser", "discriminator", "discriminator_optimiser", "seen")
    generator: StyleGAN2
    average: StyleGAN2
    optimiser: torch.optim.Adam
    discriminator: Discriminator
    discriminator_optimiser: torch.optim.Adam
    key: str
    seen: int = 0

    @classmethod
    def create(cls, params: TrainCelParams, base: Generator) -> "CelState":
        """Copy ``base`` and free all but what is ``FROZEN`` and its first layers. Raises ``CheckpointError``."""
        if not isinstance(base, StyleGAN2):
            raise CheckpointError(f"a {base.family} generator can't be given a second style: name a stylegan2")
        average = copy.deepcopy(base).eval().requires_grad_(False)
        generator = copy.deepcopy(base)
        held = first_layers(generator, params.kept_layers)
        for name, parameter in generator.named_parameters():
            parameter.requires_grad_(id(parameter) not in held and not any(part in name for part in FROZEN))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            discriminator = Discriminator(base.size, channels=params.discriminator_channels)
        for network in (generator, discriminator):
            set_precision(place(network), params.precision)
        free = [parameter for parameter in generator.parameters() if parameter.requires_grad]
        return cls(
            generator,
            average,
            torch.optim.Adam(free, params.lr, betas=(0.0, 0.99)),
            discriminator,
            torch.optim.Adam(discriminator.parameters(), params.discriminator_lr, betas=(0.0, 0.99)),
            key=f"{params.model_dump_json()} {fingerprint(model_tensors(base))}",
        )

    def averaged(self) -> tuple[nn.Module, nn.Module]:
        return self.average, self.generator


def first_layers(generator: StyleGAN2, count: int) -> set[int]:
    """Identities of the parameters of the first ``count`` layers, with those of the constant that they start from."""
    modules = [generator.input, *(layer for layer, _ in generator.layers()[:count])] if count else []
    return {id(parameter) for module in modules for parameter in module.parameters()}


def train_cel(
    params: TrainCelParams,
    base: Generator,
    portraits: PortraitSet,
    state_path: Path,
    report: Report,
    score: Callable[[Generator], dict[str, float]],
    report_every: int = 4_000,
) -> StyleGAN2:
    """Fine-tune (or go on) and return the averaged generator; a resumed run gives the same weights as an unbroken one.

    ``portraits`` are cel-shaded. ``report`` is called every ``report_every`` images with the losses and what ``score``
    finds, and with the same latents as drawn now.
    """
    state = CelState.create(params, base)
    gaussian = gaussian_from_factors(torch.from_numpy(portraits.factors.copy()))
    course = Course(params.images, params.batch_size, params.seed, report_every, params.ema_images)

    def step(stream: torch.Generator) -> dict[str, float]:
        rows = torch.randint(len(portraits), (params.batch_size,), generator=stream).numpy()
        images = state.generator(place(paired_latents(gaussian[rows], base.z_dim, stream)), noise="random")
        number = state.seen // params.batch_size
        rate = warm_cosine(number, course.steps, warmup=50)
        for optimiser, lr in ((state.optimiser, params.lr), (state.discriminator_optimiser, params.discriminator_lr)):
            set_rate(optimiser, lr * rate)
        real, weight = place(portraits.images(rows)), place(portraits.weights(rows, params))
        return _learn(state, params, images, real, weight, number)

    fit(state, course, step, report, lambda: (score(state.average), sample_grid(state.average)), state_path)
    return state.average


def _learn(
    state: CelState, params: TrainCelParams, images: Tensor, real: Tensor, weight: Tensor, number: int
) -> dict[str, float]:
    loss = pyramid_loss(images, real, weight)
    found = {"pair": loss.item()}
    if params.adversarial_weight:
        game, losses = play(state.discriminator, state.discriminator_optimiser, real, images, params, number)
        loss, found = loss + params.adversarial_weight * game, found | losses
    take_step(state.optimiser, loss, state.generator)
    return found


def ensure_cel(folder: Path, portraits: PortraitSet) -> PortraitSet:
    """Render ``portraits`` cel-shaded into ``folder``, unless they are there, and return them with their truth."""
    made_from = {"factors": hashlib.sha256(portraits.factors.tobytes()).hexdigest(), "renderer": _style_sha256()}
    note = folder / MADE_FROM
    if not note.exists() or json.loads(note.read_text()) != made_from:
        folder.mkdir(parents=True, exist_ok=True)
        note.unlink(missing_ok=True)
        parts = torch.from_numpy(portraits.factors.copy()).split(BATCH)
        np.save(folder / "image.npy", np.concatenate([to_uint8(render_cel(part)) for part in parts]))
        write_bytes(note, json.dumps(made_from).encode())
    return PortraitSet(np.load(folder / "image.npy", mmap_mode="r"), portraits.segmentation, portraits.factors)


def _style_sha256() -> str:
    return hashlib.sha256(renderer_sha256().encode() + Path(cel.__file__).read_bytes()).hexdigest()


def load_cel(split: str, count: int | None = None, folder: Path = FOLDER) -> PortraitSet:
    """Return the first ``count`` portraits of a split (default: all), cel-shaded; rendered when they aren't there."""
    plain = load_portraits(split, folder)
    return ensure_cel(
        folder / f"cel_{split}", PortraitSet(plain.image[:count], plain.segmentation[:count], plain.factors[:count])
    )


def make_cel(chosen: TrainCelParams, params: Params, folder: Path, report: Report) -> dict[str, float]:
    """Fine-tune ``models.generator``, or go on in ``folder``; store the result, and return its distance.

    The distance is that to the held-out cel-shaded portraits.
    """
    score = held_out_distance(load_cel("held_out"), params.models, images=1024)
    base = load_generator(params.models.generator)
    generator = train_cel(chosen, base.model, load_cel("train", chosen.portraits), folder / "state.pt", report, score)
    scores = score(generator)
    card = Card(
        kind="generator",
        name="stylegan2",
        arguments=generator.arguments,
        space="w_plus",
        generator_sha256=base.sha256,
        made_by="python -m tasks.train train-cel",
        licence="Apache-2.0",
        source="fine-tuned on the cel-shaded toy portraits of this project",
        notes=f"{chosen.images} images of {chosen.portraits} portraits; mapping and modulation frozen",
        extra=scores,
    )
    save_checkpoint(params.models.second_generator, model_tensors(generator), card)
    return scores
