"""Everything that the training of an encoder resumes from."""

import copy
import math
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from gan_core.device import place
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.encoders.e4e import LatentDiscriminator, LatentPool, stage_at
from gan_core.generators.base import Generator
from gan_core.loading import model_tensors
from gan_core.toy.params import TrainEncoderParams
from gan_core.training.ranger import Ranger
from gan_core.training.state import Resumable, fingerprint


@dataclass
class EncoderState(Resumable):
    """An encoder in training, its running average, and the best average so far.

    ``key`` follows from the parameters, but for those that are ``open`` to change, and the generator's weights: what
    others of them began is never taken up. The networks behind the losses are no part of it.
    """

    kept: ClassVar[tuple[str, ...]] = (
        "encoder",
        "average",
        "optimiser",
        "discriminator",
        "discriminator_optimiser",
        "pool",
        "seen",
        "best",
        "best_score",
    )
    open: ClassVar[set[str]] = set()
    encoder: Encoder
    average: Encoder
    optimiser: torch.optim.Optimizer
    key: str
    discriminator: LatentDiscriminator | None = None
    discriminator_optimiser: torch.optim.Optimizer | None = None
    pool: LatentPool | None = None
    seen: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_score: float = math.inf

    @classmethod
    def create(
        cls, variant: str, params: TrainEncoderParams, generator: Generator, built: Encoder | None = None
    ) -> Self:
        """Build a fresh encoder for ``generator``, or take the one that is ``built``.

        Raises ``ParamsError`` for a ``network`` that can't be built.
        """
        torch.manual_seed(params.seed)
        encoder = place(built or ENCODERS.get(variant).for_generator(generator, **params.network))
        encoder = encoder.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = copy.deepcopy(encoder).eval().requires_grad_(False)
        key = f"{variant} {params.model_dump_json(exclude=cls.open)} {fingerprint(model_tensors(generator))}"
        state = cls(encoder, average, build_optimiser(encoder, params), key)
        if params.losses.get("adversarial"):
            state.discriminator = place(LatentDiscriminator(generator.w_dim))
            rate = params.discriminator_lr
            state.discriminator_optimiser = torch.optim.Adam(state.discriminator.parameters(), rate, (0.9, 0.99))
            state.pool = place(LatentPool(params.latent_pool, generator.w_dim)) if params.latent_pool else None
        return state

    def averaged(self) -> tuple[nn.Module, nn.Module]:
        return self.average, self.encoder

    @torch.no_grad()
    def begin_from(self, trained: Encoder) -> None:
        """Start from the weights of another encoder, wherever names and shapes are the same."""
        tensors = model_tensors(trained)
        for model in (self.encoder, self.average):
            for name, value in model_tensors(model).items():
                if name in tensors and tensors[name].shape == value.shape:
                    value.copy_(tensors[name])
        self.key += f" from {fingerprint(tensors)}"

    def set_stage(self, params: TrainEncoderParams) -> None:
        """Let an encoder with progressive stages use those that are due."""
        if hasattr(self.encoder, "stage"):
            start, every = params.progressive_start, params.progressive_every
            last = self.encoder.n_latent - 1
            stage = stage_at(self.seen, last + 1, start, every) if every else last
            self.encoder.stage = self.average.stage = stage  # type: ignore[assignment]

    def set_norms(self, params: TrainEncoderParams) -> None:
        """Let an encoder that looks several times learn from pictures with the statistics that it will be used with.

        Each look has statistics of its own, which the running ones are a mixture of. With those of a batch, a trained
        ReStyle was twice as far away when it was used (LPIPS .058 and .143).
        """
        if getattr(self.encoder, "steps", 1) > 1 and params.latent_images:
            for module in self.encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.train(self.seen < params.latent_images)

    def keep_best(self, score: float) -> None:
        """Remember the average if ``score``, with all its stages in use, is the lowest so far."""
        last = self.average.n_latent - 1
        if score < self.best_score and getattr(self.average, "stage", last) == last:
            self.best_score = score
            self.best = {name: value.clone() for name, value in self.average.state_dict().items()}

    def best_average(self) -> Encoder:
        """The best average, all its stages in use; the latest one if none was ever scored."""
        if self.best:
            self.average.load_state_dict(self.best)
        return self.latest_average()

    def latest_average(self) -> Encoder:
        """The average as it stands, all its stages in use."""
        if hasattr(self.average, "stage"):
            self.average.stage = self.average.n_latent - 1  # type: ignore[assignment]
        return self.average


@dataclass
class StudiedState(EncoderState):
    """An encoder whose training can go on to more images, and what it has cost so far."""

    kept = (*EncoderState.kept, "seconds")
    open: ClassVar[set[str]] = {"images"}
    seconds: float = 0.0


def build_optimiser(encoder: Encoder, params: TrainEncoderParams) -> torch.optim.Optimizer:
    """Build the optimiser that the parameters name."""
    if params.optimiser == "ranger":
        return Ranger(encoder.parameters(), params.lr, weight_decay=params.weight_decay)
    return torch.optim.AdamW(encoder.parameters(), params.lr, (0.9, 0.99), weight_decay=params.weight_decay)
