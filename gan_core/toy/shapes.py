"""Coloured shapes on a black ground, whose position, rotation and hue wrap around: a renderer with exact truth.

Each periodic attribute is the angle of its own plane of the latent space, size and kind are one axis each, and a fixed
rotation hides all of these. So a straight line can't serve: along it the angle of a plane changes by half a turn at
most, and how far and which way depends on where it starts; over all latents as many go one way as the other. What turns
an attribute equally from everywhere is a circle around the plane's origin. No map that straightens the whole space
gives closed curves either: such paths can follow arcs, and must leave them somewhere.
"""

import math

import torch
from torch import Tensor

from gan_core.judges.scorers import wrapped

PERIODIC = ("x", "y", "turn", "hue")
NAMES = (*PERIODIC, "size")
FACTORS = (*NAMES, "kind")
Z_DIM = 2 * len(PERIODIC) + 2
SIZE = 32
SIZES = (0.22, 0.38)
"""Roots of the area, as shares of the picture: the longest shape ends before it meets itself around the torus."""
ASPECTS = (1.5, 3.5)
"""Length over width of the first and the last kind; a rounder shape would have no rotation."""
GROUND = 0.1
"""Coverage below this is no ink: generators don't draw the ground exactly black."""
ROTATION_SEED = 4


def factors_of(z: Tensor) -> Tensor:
    """Return the factors ``[B, 6]`` of latents ``[B, 10]``: shares of 1, evenly spread, in the order of ``FACTORS``."""
    z = z @ rotation().to(z)
    planes = z[:, : 2 * len(PERIODIC)].unflatten(1, (-1, 2))
    turns = torch.atan2(planes[..., 1], planes[..., 0]) / (2 * math.pi)
    return torch.cat([turns % 1, torch.special.ndtr(z[:, 2 * len(PERIODIC) :])], 1)


def render_shapes(factors: Tensor, size: int = SIZE) -> Tensor:
    """Draw factors ``[B, 6]``: images ``[B, 3, size, size]`` in [-1, 1] of ellipses on a torus, with smooth edges.

    ``x`` and ``y`` are the centre, from the upper left. ``turn`` 1 is half a turn, after which each shape is itself.
    ``kind`` is its proportions, from stout to slender.
    """
    x, y, turn, hue, share, kind = factors.unbind(1)
    places = (torch.arange(size, device=factors.device) + 0.5) / size
    dx, dy = (wrapped(places[None] - centre[:, None]) for centre in (x, y))
    along, across = _turned(dx[:, None, :], dy[:, :, None], turn)
    side, aspect = SIZES[0] + (SIZES[1] - SIZES[0]) * share, ASPECTS[0] * (ASPECTS[1] / ASPECTS[0]) ** kind
    long, wide = (side * (ratio / math.pi).sqrt() for ratio in (aspect, 1 / aspect))
    u, v = along / long[:, None, None], across / wide[:, None, None]
    radius = torch.hypot(u, v).clamp_min(1e-6)
    slope = torch.hypot(u / long[:, None, None], v / wide[:, None, None]) / radius
    coverage = (0.5 - size * (radius - 1) / slope.clamp_min(1e-6)).clamp(0, 1)
    return 2 * coverage[:, None] * colours(hue)[:, :, None, None] - 1


def colours(hue: Tensor) -> Tensor:
    """Return colours ``[B, 3]`` in [0, 1] of hues ``[B]``; the sum of the channels is 1.5 for each."""
    thirds = torch.arange(3, device=hue.device) / 3
    return 0.5 + 0.5 * torch.cos(2 * math.pi * (hue[:, None] - thirds))


def measure_shapes(images: Tensor) -> Tensor:
    """Measure images ``[B, 3, H, W]`` in closed form: ``[B, 6]`` in the order of ``FACTORS``, as ``factors_of`` gives.

    Positions are circular means of the ink, ``turn`` is the long axis of its second moments about them, ``hue`` the
    angle of its mean colour, ``size`` the root of its area, ``kind`` the root of the ratio of the second moments.
    """
    rgb = (images.clamp(-1, 1) + 1) / 2
    ink = (rgb.sum(1) / 1.5 - GROUND).clamp_min(0) / (1 - GROUND)
    total = ink.sum((1, 2)).clamp_min(1e-6)
    places = (torch.arange(images.shape[-1], device=images.device) + 0.5) / images.shape[-1]
    x, y = (_circular_mean(ink.sum(axis), places) for axis in (1, 2))
    dx, dy = (wrapped(places[None] - centre[:, None]) for centre in (x, y))
    dx, dy = dx[:, None, :], dy[:, :, None]
    xx, yy, xy = ((ink * each).sum((1, 2)) / total for each in (dx * dx, dy * dy, dx * dy))
    mean, apart = (xx + yy) / 2, torch.hypot((xx - yy) / 2, xy)
    turn = torch.atan2(2 * xy, xx - yy) / (2 * math.pi) % 1
    hue = _circular_mean((rgb * ink[:, None]).sum((2, 3)), torch.arange(3, device=images.device) / 3)
    size = (ink.mean((1, 2)).sqrt() - SIZES[0]) / (SIZES[1] - SIZES[0])
    aspect = ((mean + apart) / (mean - apart).clamp_min(1e-6)).sqrt()
    kind = (aspect / ASPECTS[0]).log() / math.log(ASPECTS[1] / ASPECTS[0])
    return torch.stack([x, y, turn, hue, size, kind], 1)


def factor_errors(found: Tensor, factors: Tensor) -> Tensor:
    """Return how far attributes ``[B, 6]`` are from factors ``[B, 6]``; periodic ones the shorter way round."""
    away, turns = found - factors, len(PERIODIC)
    return torch.cat([wrapped(away[:, :turns]), away[:, turns:]], 1).abs()


def _turned(dx: Tensor, dy: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    angle = math.pi * turn[:, None, None]
    return dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()


def _circular_mean(weights: Tensor, places: Tensor) -> Tensor:
    angles = 2 * math.pi * places
    return torch.atan2(weights @ angles.sin(), weights @ angles.cos()) / (2 * math.pi) % 1


def rotation() -> Tensor:
    """Return the orthogonal matrix ``[10, 10]`` whose columns are the axes of the planes, the size and the kind."""
    return torch.linalg.qr(torch.randn(Z_DIM, Z_DIM, generator=torch.Generator().manual_seed(ROTATION_SEED)))[0]
