"""Who says which attributes a picture of a shape has: measures in closed form, and a network that reads them."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gan_core.judges.networks import load_network
from gan_core.judges.scorers import Scorers
from gan_core.toy.shapes import FACTORS, NAMES, PERIODIC, measure_shapes

READER = Path("data/models/shape-reader.safetensors")
READ = (*(f"{name} {part}" for name in PERIODIC for part in ("cos", "sin")), *FACTORS[len(PERIODIC) :])
"""What the network reads, -1 to 1: of a periodic attribute a point on the circle, as no single number is continuous."""


def measured() -> Scorers:
    """Judge by ``measure_shapes``, which nothing was fitted for."""
    return _scorers(measure_shapes)


def read(path: Path = READER) -> Scorers:
    """Judge by the network of a file; raises ``CheckpointError``."""
    reader = load_network(path, "attributes")
    return _scorers(lambda images: from_reading(reader.model(images)), reader.sha256)


def to_reading(factors: Tensor) -> Tensor:
    """Return what the network should read of factors ``[B, 6]``: ``[B, 10]``, named by ``READ``."""
    turns = len(PERIODIC)
    angles = 2 * math.pi * factors[:, :turns]
    return torch.cat([torch.stack([angles.cos(), angles.sin()], 2).flatten(1), 2 * factors[:, turns:] - 1], 1)


def from_reading(values: Tensor) -> Tensor:
    """Return the attributes ``[B, 6]`` that ``values [B, 10]`` stand for, as ``measure_shapes`` gives them."""
    points, others = values[:, : 2 * len(PERIODIC)].unflatten(1, (-1, 2)), values[:, 2 * len(PERIODIC) :]
    return torch.cat([torch.atan2(points[..., 1], points[..., 0]) / (2 * math.pi) % 1, (others + 1) / 2], 1)


def kind_vector(kind: Tensor) -> Tensor:
    """Return unit vectors ``[B, 2]`` of kinds ``[B]``: the cosine is 1 for equal ones, 0 from one end to the other."""
    angle = kind.clamp(0, 1) * math.pi / 2
    return torch.stack([angle.cos(), angle.sin()], 1)


def _scorers(attributes: Callable[[Tensor], Tensor], sha256: str | None = None) -> Scorers:
    """Judge by ``attributes [B, 6]``: all but the kind, which is the identity."""
    count = len(NAMES)
    return Scorers(
        NAMES,
        lambda images: attributes(images)[:, :count],
        lambda images: kind_vector(attributes(images)[:, count]),
        sha256,
        PERIODIC,
    )
