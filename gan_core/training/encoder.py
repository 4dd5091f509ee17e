"""pSp on the toy portraits (Richardson et al. 2021, section 3.2): from an image through the generator back to itself.

``python -m gan_core.training.encoder`` trains what ``params.yaml`` asks for and resumes where it was stopped;
``python -m flows.train_models encoder`` does the same with its course in MLflow.
"""

import copy
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_core.checkpoints.store import Card, file_sha256, model_tensors, save_checkpoint
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.generators.base import Generator
from gan_core.params import ModelPaths, Params, TrainEncoderParams, load_params
from gan_core.precision import set_precision
from gan_core.training.log import Report, TrainingLog
from gan_core.training.portraits import PortraitSet, load_portraits
from gan_core.training.reconstruction import Batch, Judges, draw_batch, evaluate, inversion_loss, latent_loss
from gan_core.training.schedule import warm_cosine

Loss = Callable[[Encoder, TrainEncoderParams, Judges, Batch], tuple[Tensor, dict[str, float]]]

SAMPLED = 4
SAVE_SECONDS = 90
HALF_LIFE = 4000
STATE = Path("data/training/encoder.pt")
SCORES = Path("data/metrics/encoder.json")


@dataclass
class EncoderState:
    """Everything that training resumes from."""

    encoder: Encoder
    average: Encoder
    optimiser: torch.optim.Adam
    key: str
    seen: int = 0

    @classmethod
    def create(cls, params: TrainEncoderParams, generator: Generator) -> "EncoderState":
        """Build a fresh encoder for ``generator``, starting from its average latent.

        ``key`` follows from the parameters and the generator's weights: work of others is never taken up.
        """
        torch.manual_seed(params.seed)
        shape = {"n_latent": generator.n_latent, "style_dim": generator.w_dim, "input_size": params.input_size}
        encoder = ENCODERS.get("psp")(**shape, units=params.units, width=params.width)  # type: ignore[call-arg]
        encoder.latent_avg.copy_(generator.latent_avg)
        encoder = encoder.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.Adam(encoder.parameters(), params.lr, betas=(0.9, 0.99))
        average = copy.deepcopy(encoder).eval().requires_grad_(False)
        weights = sum(value.double().abs().sum().item() for value in model_tensors(generator).values())
        return cls(encoder, average, optimiser, key=f"{params.model_dump_json()} {weights!r}")

    def save(self, path: Path) -> None:
        """Write atomically: a kill leaves the previous file."""
        parts = {name: getattr(self, name).state_dict() for name in ("encoder", "average", "optimiser")}
        temporary = path.with_suffix(".tmp")
        torch.save(parts | {"seen": self.seen, "key": self.key}, temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        """Continue from a file written by ``save``, if there is one for the same parameters and generator."""
        parts = torch.load(path, weights_only=True) if path.exists() else {}
        if parts.get("key") != self.key:
            return
        for name in ("encoder", "average", "optimiser"):
            getattr(self, name).load_state_dict(parts[name])
        self.seen = parts["seen"]


def train_encoder(
    params: TrainEncoderParams,
    judges: Judges,
    portraits: PortraitSet,
    state_path: Path,
    report: Report,
    report_every: int = 5_000,
) -> Encoder:
    """Train (or go on training) and return the averaged encoder.

    ``state_path`` is rewritten about every 90 seconds. Batch i follows from ``params.seed`` and i alone. ``report`` is
    called every ``report_every`` images with the last losses and pairs of held-in portraits and reconstructions.
    """
    set_precision(judges.generator, params.precision)
    state = EncoderState.create(params, judges.generator)
    state.load(state_path)
    saved = time.monotonic()
    while state.seen < params.images:
        stream = torch.Generator().manual_seed(params.seed * 1_000_003 + state.seen)
        warm_up = state.seen < params.latent_images
        sampled = params.batch_size if warm_up else params.batch_size // SAMPLED
        batch = draw_batch(portraits, judges.generator, params.batch_size, sampled, stream)
        losses = train_step(state, params, judges, batch, latent_loss if warm_up else inversion_loss)
        before, state.seen = state.seen, state.seen + params.batch_size
        if before // report_every != state.seen // report_every or state.seen >= params.images:
            report(state.seen, losses, reconstruction_grid(state.average, judges.generator, portraits))
        if time.monotonic() - saved > SAVE_SECONDS or state.seen >= params.images:
            state.save(state_path)
            saved = time.monotonic()
    set_precision(judges.generator, "exact")
    return state.average


def train_step(
    state: EncoderState, params: TrainEncoderParams, judges: Judges, batch: Batch, loss: Loss
) -> dict[str, float]:
    """Take one step of Adam (warm-up, then cosine) and move the average; return the losses."""
    step, steps = state.seen // params.batch_size, -(-params.images // params.batch_size)
    for group in state.optimiser.param_groups:
        group["lr"] = params.lr * warm_cosine(step, steps)
    total, losses = loss(state.encoder, params, judges, batch)
    state.optimiser.zero_grad(set_to_none=True)
    total.backward()
    nn.utils.clip_grad_norm_(state.encoder.parameters(), 5.0, error_if_nonfinite=True)
    state.optimiser.step()
    move_average(state.average, state.encoder, 0.5 ** (params.batch_size / min(HALF_LIFE, max(state.seen * 0.1, 1))))
    return losses


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every floating tensor of ``average``, statistics of the batch normalisation included, towards ``model``."""
    for slow, fast in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - decay)
        else:
            slow.copy_(fast)


@torch.no_grad()
def reconstruction_grid(encoder: Encoder, generator: Generator, portraits: PortraitSet, count: int = 16) -> Tensor:
    """The first ``count`` portraits, each row of eight followed by its reconstructions, ``[2 count, 3, H, W]``."""
    images = portraits.images(torch.arange(count).numpy())
    drawn = generator.synthesis(encoder.encode(images))
    return torch.cat([torch.cat(pair) for pair in zip(images.split(8), drawn.split(8), strict=True)])


def store_encoder(encoder: Encoder, models: ModelPaths, params: TrainEncoderParams, scores: dict[str, float]) -> str:
    """Write the encoder with a card that binds it to its generator and holds its scores; return the file's sha256."""
    card = Card(
        kind="encoder",
        name=encoder.name,
        arguments=encoder.arguments,
        space=encoder.space,
        generator_sha256=file_sha256(models.generator),
        made_by="python -m flows.train_models encoder",
        licence="Apache-2.0",
        source="trained on the toy portraits of this project",
        extra={"held_out": scores, "params": params.model_dump()},
    )
    return save_checkpoint(models.encoder, model_tensors(encoder), card)


def train(params: Params, report: Report) -> None:
    """Train the encoder of ``params``, or go on where it was stopped; score it on the held-out portraits; store it."""
    judges = Judges.load(params.models)
    STATE.parent.mkdir(parents=True, exist_ok=True)
    encoder = train_encoder(params.train_encoder, judges, load_portraits("train"), STATE, report)
    scores = evaluate(encoder, judges, load_portraits("held_out"))
    store_encoder(encoder, params.models, params.train_encoder, scores)
    SCORES.parent.mkdir(parents=True, exist_ok=True)
    SCORES.write_text(json.dumps(scores, indent=2) + "\n")
    STATE.unlink()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(load_params(), TrainingLog("encoder"))
