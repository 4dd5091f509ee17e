"""Panoramas of any number of images, generated pair by pair (SOAT, section "panorama")."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gan_core.compose.operations import join
from gan_core.device import widest
from gan_core.errors import ParamsError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import DIMENSION, Axis

SIGMA = 0.7
"""Width of the smoothing along the codes, as published."""
MOST_SMOOTHING = 100.0
"""Fewer than about 30 codes are all averaged by it; more takes memory and time for nothing."""


def smooth(codes: Tensor, sigma: float = SIGMA, centre: Tensor | float = 0.0) -> Tensor:
    """Average codes ``[n, ...]`` with their neighbours, so that neighbours resemble each other.

    It applies a circular Gaussian along the first axis, cut off at 4 sigma. All codes (minus ``centre``) are then
    scaled by one factor that restores their root mean square. For ``z`` that is the published division, up to the root
    mean square of ``z``, which the published code takes as 1.
    """
    radius = int(4 * sigma + 0.5)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma).square())
    weights = (taps / taps.sum()).tolist()
    offset = widest(codes - centre)
    shifts = range(-radius, radius + 1)
    soft = torch.zeros_like(offset)
    for shift, weight in zip(shifts, weights, strict=True):
        soft += weight * offset.roll(shift, 0)
    return (centre + soft * (_rms(offset) / _rms(soft))).to(codes)


def panorama_strips(
    generator: StyleGAN2, w_plus: Tensor, axis: Axis = "horizontal", wrap: bool = False
) -> Iterator[Tensor]:
    """Yield the consecutive strips ``[1, 3, H, W]`` in [-1, 1] of a panorama of ``w_plus [n, n_latent, w_dim]``.

    Each strip is a joined pair, cut in the middle of both images. The strips are ``n`` images long in total; with
    ``wrap`` the end continues at the beginning. Raises ``ParamsError`` for fewer than two images.
    """
    if len(w_plus) < 2:
        raise ParamsError(f"a panorama of {len(w_plus)}: give at least 2 pictures")
    size, half, dimension = generator.size, generator.size // 2, DIMENSION[axis]
    pairs = len(w_plus) if wrap else len(w_plus) - 1
    style = generator.styles(w_plus[:1])
    for i in range(pairs):
        following = generator.styles(w_plus[(i + 1) % len(w_plus)][None])
        image = join(generator.branch(style), generator.branch(following), axis)
        first = 0 if i == 0 and not wrap else half
        last = 2 * size if i == pairs - 1 and not wrap else 2 * size - half
        yield image.narrow(dimension, first, last - first)
        style = following


def panorama(generator: StyleGAN2, w_plus: Tensor, axis: Axis = "horizontal", wrap: bool = False) -> Tensor:
    """Return the whole panorama of ``panorama_strips``, ``[1, 3, H, W]`` in [-1, 1].

    With ``wrap`` it begins in the middle of the first image, where the last strip ends. Besides the panorama, at most
    two joined pairs are in memory. Raises ``ParamsError`` for fewer than two images.
    """
    dimension, at = DIMENSION[axis], 0
    height, width = (len(w_plus) * generator.size if dimension == d else generator.size for d in (2, 3))
    image = torch.empty(1, 3, height, width, device=w_plus.device)
    for strip in panorama_strips(generator, w_plus, axis, wrap):
        length = strip.shape[dimension]
        image.narrow(dimension, at, length).copy_(strip)
        at += length
    return image


def seam_score(image: Tensor, joins: Sequence[int], axis: Axis = "horizontal") -> float:
    """Return the mean absolute difference of neighbouring pixels at the ``joins``, divided by that everywhere else.

    ``joins`` are the positions of the first pixel after each join in ``image [1, 3, H, W]``. Above 1 the joins are
    visible as lines; below 1 they are smoother than the rest. A picture of a single colour scores 0.
    """
    dimension = DIMENSION[axis]
    steps = image.diff(dim=dimension).abs().mean([d for d in range(4) if d != dimension])
    at = torch.zeros(len(steps), dtype=torch.bool, device=steps.device)
    at[torch.tensor(joins) - 1] = True
    return float(steps[at].mean() / steps[~at].mean().clamp_min(1e-12))


def joins_of(n: int, size: int, wrap: bool = False) -> list[int]:
    """Return the positions of the joins in a panorama of ``n`` images of ``size`` pixels."""
    return [size * i + size // 2 for i in range(n)] if wrap else [size * i for i in range(1, n)]


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt().clamp_min(1e-12)
