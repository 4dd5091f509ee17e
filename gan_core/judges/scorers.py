"""The networks that score pictures: which attributes they show, and whose identity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gan_core.generators.base import Generator
from gan_core.judges.networks import load_network
from gan_core.params import ModelPaths

Reader = Callable[[Tensor], Tensor]
BATCH = 64


@dataclass(frozen=True)
class Scorers:
    """Score pictures ``[B, C, H, W]``: ``attributes`` gives ``[B, A]``, ``identity`` unit rows ``[B, D]``.

    Attributes, named by ``names``, are shares of their ranges: 0 to 1. Those that are ``periodic`` wrap around: 0 and 1
    are the same. ``attributes_sha256`` and ``identity_sha256`` are hashes of the files of the networks behind them, if
    there are any.
    """

    names: tuple[str, ...]
    attributes: Reader
    identity: Reader
    attributes_sha256: str | None = None
    periodic: tuple[str, ...] = ()
    identity_sha256: str | None = None


@dataclass(frozen=True)
class Scored:
    """Latents ``w_plus [B, n_latent, w_dim]`` with the scores of their pictures: ``[B, A]`` and ``[B, D]``.

    ``wraps`` are the columns of periodic attributes.
    """

    w_plus: Tensor
    attributes: Tensor
    identity: Tensor
    wraps: tuple[int, ...] = ()

    def part(self, rows: slice) -> "Scored":
        """Return some of the rows."""
        return replace(self, w_plus=self.w_plus[rows], attributes=self.attributes[rows], identity=self.identity[rows])

    def change(self, since: "Scored") -> Tensor:
        """Return the change ``[B, A]`` of the attributes of each row; of periodic ones the shorter way round."""
        change = self.attributes - since.attributes
        for column in self.wraps:
            change[:, column] = wrapped(change[:, column])
        return change


def wrapped(difference: Tensor) -> Tensor:
    """Return differences of places on a circle of length 1 the shorter way round: -0.5 to 0.5."""
    return (difference + 0.5) % 1 - 0.5


def load_scorers(models: ModelPaths) -> Scorers:
    """Return the attribute regressor and the identity embedder of ``models``; raises ``CheckpointError``."""
    regressor, embedder = load_network(models.attributes, "attributes"), load_network(models.identity, "identity")
    names: Sequence[str] = regressor.model.names  # type: ignore[assignment]
    return Scorers(
        tuple(names),
        lambda images: (regressor.model(images) + 1) / 2,
        embedder.model,
        regressor.sha256,
        identity_sha256=embedder.sha256,
    )


@torch.no_grad()
def render_and_score(generator: Generator, w_plus: Tensor, scorers: Scorers) -> Scored:
    """Render latents ``[B, n_latent, w_dim]`` and score the pictures, ``BATCH`` at a time."""
    scores = []
    for part in w_plus.split(BATCH):
        images = generator.synthesis(part)
        scores.append((scorers.attributes(images), scorers.identity(images)))
    attributes, identity = zip(*scores, strict=True)
    wraps = tuple(scorers.names.index(name) for name in scorers.periodic)
    return Scored(w_plus, torch.cat(attributes), torch.cat(identity), wraps)
