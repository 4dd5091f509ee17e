"""Every encoder on the toy portraits, by one loop: from an image through the generator back to itself.

``python -m gan_core.toy.training.encoder psp`` trains the variant as ``train_encoder.psp`` of ``params.yaml`` asks and
resumes where it was stopped; ``python -m flows.train_models encoder psp`` does the same with its course in MLflow.
"""

import json
import logging
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_core.checkpoints.files import Card, file_sha256, save_checkpoint
from gan_core.encoders.base import Encoder
from gan_core.errors import ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.loading import model_tensors
from gan_core.params import Params, Term, TrainEncoderParams, load_params
from gan_core.precision import set_precision
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
from gan_core.toy.training.reconstruction import INVERSION, Batch, Judges, Lesson, evaluate
from gan_core.training.log import Progress, Report, TrainingLog
from gan_core.training.schedule import warm_cosine
from gan_core.training.state import move_average

SAMPLED = 4
"""One in this many pictures of a batch is the generator's, so that its latents are known."""
SAVE_SECONDS = 90
VALIDATED = 128
R1_EVERY = 16
FOLDER = Path("data/training")
SCORES = Path("data/metrics")


def train_encoder(
    variant: str,
    params: TrainEncoderParams,
    judges: Judges,
    portraits: PortraitSet,
    held_out: PortraitSet,
    state_path: Path,
    report: Report,
    report_every: int = 5_000,
    lesson: Lesson = INVERSION,
    start: Encoder | None = None,
    progress: Progress | None = None,
) -> Encoder:
    """Train (or go on training) and return the averaged encoder that was best on held-out portraits.

    ``state_path`` is rewritten about every 90 seconds. Batch i follows from ``params.seed`` and i alone. Every
    ``report_every`` images the average is scored on the first held-out portraits, and ``report`` is called with the
    last losses, these scores (``held_out/...``) and pairs of held-out portraits and reconstructions. ``lesson`` is what
    is learnt, and ``start`` an encoder whose weights are begun with. ``progress`` is told the images seen at each step.
    """
    set_precision(judges.generator, params.precision)
    state = EncoderState.create(variant, params, judges.generator)
    if start is not None:
        state.begin_from(start)
    state.load(state_path)
    saved = time.monotonic()
    while state.seen < params.images:
        losses = train_step(state, params, judges, portraits, lesson)
        before, state.seen = state.seen, state.seen + params.batch_size
        if progress is not None:
            progress(state.seen)
        if before // report_every != state.seen // report_every or state.seen >= params.images:
            scores = validate(state, params, judges, held_out, lesson)
            pictures = reconstruction_grid(state.average, judges.generator, held_out, lesson=lesson)
            report(state.seen, losses | scores, pictures)
        if time.monotonic() - saved > SAVE_SECONDS or state.seen >= params.images:
            state.save(state_path)
            saved = time.monotonic()
    set_precision(judges.generator, "exact")
    return state.best_average()


def train_step(
    state: EncoderState,
    params: TrainEncoderParams,
    judges: Judges,
    portraits: PortraitSet,
    lesson: Lesson = INVERSION,
) -> dict[str, float]:
    """Take one step (warm-up, then cosine) and move the average; return the losses.

    Until ``latent_images`` were seen only the latents of the generator's own pictures are learnt.
    """
    torch.manual_seed(params.seed * 1_000_003 + state.seen)  # for dropout
    stream = torch.Generator().manual_seed(params.seed * 1_000_003 + state.seen)
    warm_up = state.seen < params.latent_images
    sampled = params.batch_size if warm_up else params.batch_size // SAMPLED
    batch = lesson.draw(portraits, judges.generator, params.batch_size, sampled, stream)
    state.set_stage(params)
    step, steps = state.seen // params.batch_size, -(-params.images // params.batch_size)
    for group in state.optimiser.param_groups:
        group["lr"] = params.lr * warm_cosine(step, steps)
    total, losses = (
        latent_loss(state.encoder, params, judges, batch) if warm_up else _play(state, params, judges, batch)
    )
    state.optimiser.zero_grad(set_to_none=True)
    total.backward()
    nn.utils.clip_grad_norm_(state.encoder.parameters(), params.clip, error_if_nonfinite=True)
    state.optimiser.step()
    half_life = min(params.ema_images, max(state.seen * 0.1, 1))
    move_average(state.average, state.encoder, 0.5 ** (params.batch_size / half_life))
    return losses


def _play(state: EncoderState, params: TrainEncoderParams, judges: Judges, batch: Batch) -> Losses:
    """The weighted losses of a batch; the latent discriminator, if there is one, takes its own step first."""
    inverted = invert(state.encoder, params, judges, batch, state.discriminator)
    found: dict[str, float] = {}
    if state.discriminator is not None and state.discriminator_optimiser is not None:
        step = state.seen // params.batch_size
        stream = torch.Generator().manual_seed(params.seed * 1_000_003 + state.seen + 1)
        with torch.no_grad():
            z = torch.randn(len(batch.images), judges.generator.z_dim, generator=stream)
            real = judges.generator.mapping(z)
        r1_weight = 0.5 * params.r1_gamma * R1_EVERY if step % R1_EVERY == 0 else 0.0
        fake = _shown(state, inverted, stream)
        loss = discriminator_loss(state.discriminator, real, fake, r1_weight)
        state.discriminator_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        state.discriminator_optimiser.step()
        found["discriminator"] = loss.item()
    total, losses = weigh(inverted, params.losses)
    return total, losses | found


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
    judges: Judges,
    held_out: PortraitSet,
    lesson: Lesson = INVERSION,
) -> dict[str, float]:
    """Score the average on held-out portraits and keep it if it is the best by the weighted losses of pictures."""
    scores = evaluate(state.average, judges, held_out, VALIDATED, lesson)
    parts: dict[Term, float] = {
        "l2": scores["mse"],
        "perceptual": scores[judges.perceptual.name],
        "l2_crop": scores["mse"],
        "perceptual_crop": scores[judges.perceptual.name],
        "identity": 1 - scores["identity_toy"],
    }
    state.keep_best(sum(params.losses.get(name, 0.0) * value for name, value in parts.items()))
    return {f"held_out/{name}": value for name, value in scores.items()}


@torch.no_grad()
def reconstruction_grid(
    encoder: Encoder, generator: Generator, portraits: PortraitSet, count: int = 16, lesson: Lesson = INVERSION
) -> Tensor:
    """The first ``count`` portraits as the encoder sees them, each row of eight followed by what is drawn.

    ``[2 count, 3, H, W]``
    """
    batch = lesson.show(portraits, torch.arange(count).numpy())
    drawn = generator.synthesis(encoder.encode(batch.seen))
    seen = lesson.visible(batch.seen)
    return torch.cat([torch.cat(pair) for pair in zip(seen.split(8), drawn.split(8), strict=True)])


def variant_path(params: Params, variant: str) -> Path:
    """Where a trained variant lies: ``models.encoder`` for the one that ``encode`` names, else beside it by name."""
    path = Path(params.models.encoder)
    return path if variant == params.encode.encoder else path.with_name(f"{variant}.safetensors")


def variant_params(params: Params, variant: str) -> TrainEncoderParams:
    """The section of a variant; raises ``ParamsError`` with near matches."""
    if variant not in params.train_encoder:
        raise ParamsError(f"train_encoder has no section {variant!r}{near_matches(variant, params.train_encoder)}")
    return params.train_encoder[variant]


def store_encoder(
    encoder: Encoder, path: Path, generator: str, params: TrainEncoderParams, scores: dict[str, float]
) -> str:
    """Write the encoder with a card that binds it to its generator and holds its scores; return the file's sha256."""
    card = Card(
        kind="encoder",
        name=encoder.name,
        arguments=encoder.arguments,
        space=encoder.space,
        generator_sha256=file_sha256(generator),
        made_by=f"python -m flows.train_models encoder {encoder.name}",
        licence="Apache-2.0",
        source="trained on the toy portraits of this project",
        extra={"held_out": scores, "params": params.model_dump()},
    )
    return save_checkpoint(path, model_tensors(encoder), card)


def train(params: Params, report: Report, variant: str = "psp", progress: Progress | None = None) -> None:
    """Train a variant, or go on where it was stopped; score it on the held-out portraits; store it."""
    chosen = variant_params(params, variant)
    judges = Judges.load(params.models)
    state_path = FOLDER / f"encoder-{variant}.pt"
    state_path.parent.mkdir(parents=True, exist_ok=True)
    held_out = load_portraits("held_out")
    encoder = train_encoder(
        variant, chosen, judges, load_portraits("train"), held_out, state_path, report, progress=progress
    )
    scores = evaluate(encoder, judges, held_out)
    store_encoder(encoder, variant_path(params, variant), params.models.generator, chosen, scores)
    SCORES.mkdir(parents=True, exist_ok=True)
    (SCORES / f"{variant}.json").write_text(json.dumps(scores, indent=2) + "\n")
    state_path.unlink()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    chosen_variant = sys.argv[1] if len(sys.argv) > 1 else "psp"
    train(load_params(), TrainingLog(f"encoder-{chosen_variant}"), chosen_variant)
