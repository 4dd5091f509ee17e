"""Every encoder on the toy portraits, by one loop: from an image through the generator back to itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, file_sha256, save_checkpoint
from gan_core.device import place
from gan_core.encoders.base import Encoder
from gan_core.generators.base import Generator
from gan_core.loading import model_tensors
from gan_core.params import Params
from gan_core.precision import in_precision
from gan_core.toy.params import TrainEncoderParams
from gan_core.toy.training.encoder_losses import (
    Inverted,
    Losses,
    active_latents,
    discriminator_loss,
    invert,
    latent_loss,
    weigh,
)
from gan_core.toy.training.encoder_state import EncoderState
from gan_core.toy.training.portraits import PortraitSet, load_portraits
from gan_core.toy.training.reconstruction import (
    INVERSION,
    Batch,
    LossNetworks,
    TrainingTask,
    evaluate,
    picture_grid,
)
from gan_core.training.fit import Course, fit
from gan_core.training.log import Report
from gan_core.training.schedule import set_rate
from gan_core.translation.tasks import Term

SAMPLED = 4
"""One in this many pictures of a batch is the generator's, so that its latents are known."""
VALIDATED = 128
R1_EVERY = 16


def train_encoder(
    variant: str,
    params: TrainEncoderParams,
    networks: LossNetworks,
    portraits: PortraitSet,
    held_out: PortraitSet,
    state_path: Path,
    report: Report,
    report_every: int = 5_000,
    task: TrainingTask = INVERSION,
    start: Encoder | None = None,
    built: Encoder | None = None,
) -> Encoder:
    """Train (or go on training) and return the averaged encoder that was best on held-out portraits.

    Every ``report_every`` images the average is scored on the first held-out portraits, and ``report`` is called with
    the last losses, these scores (``held_out/...``) and pairs of held-out portraits and reconstructions. ``task`` is
    what is learnt, ``start`` an encoder whose weights are begun with, and ``built`` what is trained where it is none of
    the registered ``variant``.
    """
    state = EncoderState.create(variant, params, networks.generator, built)
    if start is not None:
        state.begin_from(start)
    course = Course(params.images, params.batch_size, params.seed, report_every, params.ema_images)
    teach(state, params, course, networks, portraits, held_out, state_path, report, task)
    return state.best_average()


def teach(
    state: EncoderState,
    params: TrainEncoderParams,
    course: Course,
    networks: LossNetworks,
    portraits: PortraitSet,
    held_out: PortraitSet,
    state_path: Path,
    report: Report,
    task: TrainingTask = INVERSION,
) -> None:
    """Train ``state`` to the end of ``course``, from where the file at ``state_path`` left off."""

    def show() -> tuple[dict[str, float], Tensor]:
        scores = validate(state, params, networks, held_out, task)
        return scores, reconstruction_grid(state.average, networks.generator, held_out, task=task)

    def step(stream: torch.Generator) -> dict[str, float]:
        return train_step(state, course, params, networks, portraits, task, stream)

    with in_precision(networks.generator, params.precision):
        fit(state, course, step, report, show, state_path)


def train_step(
    state: EncoderState,
    course: Course,
    params: TrainEncoderParams,
    networks: LossNetworks,
    portraits: PortraitSet,
    task: TrainingTask,
    stream: torch.Generator,
) -> dict[str, float]:
    """Take one step (warm-up, then cosine); return the losses.

    Until ``latent_images`` were seen only the latents of the generator's own pictures are learnt.
    """
    warm_up = state.seen < params.latent_images
    sampled = params.batch_size if warm_up else params.batch_size // SAMPLED
    batch = task.draw(portraits, networks.generator, params.batch_size, sampled, stream)
    state.set_stage(params)
    state.set_norms(params)
    set_rate(state.optimiser, params.lr * course.rate(state.seen // params.batch_size))
    if warm_up:
        total, losses = latent_loss(state.encoder, params, networks, batch)
    else:
        total, losses = _play(state, params, networks, batch, stream)
    state.optimiser.zero_grad(set_to_none=True)
    total.backward()
    nn.utils.clip_grad_norm_(state.encoder.parameters(), params.clip, error_if_nonfinite=True)
    state.optimiser.step()
    return losses


def _play(
    state: EncoderState, params: TrainEncoderParams, networks: LossNetworks, batch: Batch, stream: torch.Generator
) -> Losses:
    """The weighted losses of a batch, summed over the encoder's passes.

    The latent discriminator, if there is one, takes its own step first. It learns from the
    first pass alone, as ReStyle's does.
    """
    inverted = invert(state.encoder, params, networks, batch, state.discriminator)
    found: dict[str, float] = {}
    if state.discriminator is not None and state.discriminator_optimiser is not None:
        with torch.no_grad():
            z = torch.randn(len(batch.images), networks.generator.z_dim, generator=stream)
            real = networks.generator.mapping(place(z))
        due = state.seen // params.batch_size % R1_EVERY == 0
        r1_weight = 0.5 * params.r1_gamma * R1_EVERY if due else 0.0
        loss = discriminator_loss(state.discriminator, real, _shown(state, inverted[0], stream), r1_weight)
        state.discriminator_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        state.discriminator_optimiser.step()
        found["discriminator"] = loss.item()
    totals, losses = zip(*(weigh(each, params.losses) for each in inverted), strict=True)
    return torch.stack(totals).sum(), losses[-1] | found


def _shown(state: EncoderState, inverted: Inverted, stream: torch.Generator) -> Tensor:
    """The encoder's latents that the discriminator learns from ``[N, w_dim]``: all, or by the pool one an image."""
    if state.pool is None:
        return active_latents(inverted.codes, inverted.stage)
    rows = torch.arange(len(inverted.codes))
    places = torch.randint(inverted.stage + 1, (len(rows),), generator=stream)
    return state.pool.exchange(inverted.codes.detach()[rows, places], stream)


def validate(
    state: EncoderState,
    params: TrainEncoderParams,
    networks: LossNetworks,
    held_out: PortraitSet,
    task: TrainingTask = INVERSION,
) -> dict[str, float]:
    """Score the average on held-out portraits and keep it if it is the best by the weighted losses of pictures."""
    scores = evaluate(state.average, networks, held_out, VALIDATED, task)
    parts: dict[Term, float] = {
        "l2": scores["mse"],
        "perceptual": scores[networks.perceptual.name],
        "l2_crop": scores["mse"],
        "perceptual_crop": scores[networks.perceptual.name],
        "identity": 1 - scores["identity_toy"],
    }
    state.keep_best(sum(params.losses.get(name, 0.0) * value for name, value in parts.items()))
    return {f"held_out/{name}": value for name, value in scores.items()}


def reconstruction_grid(
    encoder: Encoder, generator: Generator, portraits: PortraitSet, count: int = 16, task: TrainingTask = INVERSION
) -> Tensor:
    """Return the ``picture_grid`` of an encoder's last pass, ``[2 count, 3, H, W]``."""
    return picture_grid(lambda seen: encoder.inversions(seen, generator)[-1][1], portraits, count, task)


def store_encoder(
    encoder: Encoder, path: str | Path, generator: str, params: TrainEncoderParams, scores: dict[str, float], stage: str
) -> str:
    """Write the encoder that ``stage`` makes, bound to its generator, with its scores; return the file's sha256."""
    card = {"kind": "encoder", "name": encoder.name, "arguments": encoder.arguments, "space": encoder.space}
    return store_trained(encoder, path, generator, params, scores, stage, card)


def store_trained(
    network: nn.Module,
    path: str | Path,
    generator: str,
    params: TrainEncoderParams,
    scores: dict[str, float],
    stage: str,
    card: Mapping[str, Any],
) -> str:
    """Write what ``stage`` makes for a generator, ``card`` saying what it is; return the file's sha256."""
    whole = Card(
        **card,
        generator_sha256=file_sha256(generator),
        made_by=f"python -m tasks.train {stage}",
        licence="Apache-2.0",
        source="trained on the toy portraits of this project",
        extra={"held_out": scores, "params": params.model_dump()},
    )
    return save_checkpoint(path, model_tensors(network), whole)


def make_encoder(
    variant: str, chosen: TrainEncoderParams, params: Params, folder: Path, report: Report
) -> dict[str, float]:
    """Train a variant, or go on in ``folder``; store it, and return its scores on the held-out portraits."""
    networks, held_out = LossNetworks.load(params.models), load_portraits("held_out")
    portraits = load_portraits("train")
    encoder = train_encoder(variant, chosen, networks, portraits, held_out, folder / "state.pt", report)
    scores = evaluate(encoder, networks, held_out)
    stage = f"train-encoder@{variant}"
    store_encoder(encoder, params.encoder_path(variant), params.models.generator, chosen, scores, stage)
    return scores
