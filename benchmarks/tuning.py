"""Held-out portraits at the encoder's pivots, and what is measured of their tuned pictures and edits."""

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.checkpoints.files import file_sha256
from gan_core.editing.apply import apply_edit
from gan_core.editing.directions import find_direction, load_directions
from gan_core.generators.base import Generator
from gan_core.inversion.delta import apply_delta
from gan_core.judges.perceptual import PerceptualLoss, load_perceptual
from gan_core.judges.scorers import Scorers, load_scorers
from gan_core.loading import load_encoder, load_generator
from gan_core.params import ModelPaths, Params
from gan_core.storage.images import to_tensor, to_uint8
from gan_core.toy.params import load_toy_params
from gan_core.toy.renderer import render, sample_factors
from gan_core.toy.training import encoder_scores
from gan_core.toy.training.encoder_scores import EDITS, sides


@dataclass(frozen=True)
class Portraits:
    """B held-out portraits with all that scores them; ``images [B, 3, H, W]`` in [-1, 1], ``pivots`` in W+."""

    params: Params
    generator: Generator
    loss: PerceptualLoss
    scorers: Scorers
    factors: Tensor
    images: Tensor
    pivots: Tensor


def hash_networks(models: ModelPaths) -> str:
    """Hash the files of the networks and directions that tune, edit and score."""
    names = ("generator", "encoder", "perceptual", "identity", "attributes", "directions")
    return sha256("".join(file_sha256(getattr(models, name)) for name in names).encode()).hexdigest()


@torch.no_grad()
def held_out_portraits(params: Params, count: int, first: int = 0) -> Portraits:
    """Render ``count`` portraits that nothing was trained on, from number ``first``, and encode them."""
    models = params.models
    generator = load_generator(models.generator)
    encoder = load_encoder(models.encoder, generator, params.encode.encoder).model
    seed = load_toy_params().portraits.held_out_seed + first
    factors = sample_factors(range(seed, seed + count))
    images = to_tensor(list(to_uint8(render(factors).image)))
    loss, scorers = load_perceptual(models.perceptual).model, load_scorers(models)
    return Portraits(params, generator.model, loss, scorers, factors, images, encoder.encode(images))


@torch.no_grad()
def quality(portraits: Portraits, drawn: Tensor) -> dict[str, float]:
    """Mean scores of pictures ``[B, 3, H, W]`` against the portraits: mse and psnr in [-1, 1], lpips, identity."""
    drawn, wanted = drawn.clamp(-1, 1), portraits.images[: len(drawn)]
    errors = (drawn - wanted).square().flatten(1).mean(1)
    identity = F.cosine_similarity(portraits.scorers.identity(drawn), portraits.scorers.identity(wanted))
    return {
        "mse": errors.mean().item(),
        "psnr": (10 * torch.log10(4 / errors)).mean().item(),
        "lpips": portraits.loss(drawn, wanted).mean().item(),
        "identity": identity.mean().item(),
    }


@torch.no_grad()
def drawn_by(portraits: Portraits, deltas: Sequence[bytes]) -> Tensor:
    """Draw each portrait's pivot with its own weights, ``[B, 3, H, W]``."""
    images = []
    for pivot, delta in zip(portraits.pivots.split(1), deltas, strict=False):
        with apply_delta(portraits.generator, delta) as generator:
            images.append(generator.synthesis(pivot))
    return torch.cat(images)


@torch.no_grad()
def edited_by(portraits: Portraits, deltas: Sequence[bytes], name: str) -> Tensor:
    """Draw each portrait edited by one unit of ``name``, to the side where its attribute has room."""
    models = portraits.params.models
    direction = find_direction(load_directions(models.directions, load_generator(models.generator)).model, name)
    images, where = [], sides(portraits.factors, name).tolist()
    for pivot, delta, side in zip(portraits.pivots.split(1), deltas, where, strict=False):
        with apply_delta(portraits.generator, delta) as generator:
            images.append(generator.synthesis(apply_edit(pivot, direction, side)))
    return torch.cat(images)


def editability(portraits: Portraits, deltas: Sequence[bytes]) -> dict[str, float]:
    """Return the scores of the edits of tuned pictures (``gan_core.toy.training.encoder_scores.editability``)."""
    before = drawn_by(portraits, deltas)
    edited = {name: edited_by(portraits, deltas, name) for name in EDITS}
    count = len(before)
    return encoder_scores.editability(
        portraits.scorers, portraits.images[:count], before, edited, portraits.factors[:count]
    )


class Meter:
    """CPU seconds of this process, and its highest resident memory in MB above the start, of a ``with`` block.

    What was freed before goes back to the system first, so that the block pays for its own.
    """

    def __enter__(self) -> "Meter":
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        self.resident, self.started = status_mb("VmRSS"), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.process_time() - self.started
        self.peak_mb = status_mb("VmHWM") - self.resident


def status_mb(field: str) -> float:
    """Return a size from this process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024
