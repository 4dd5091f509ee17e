"""Panoramas of any number of pictures, streamed pair by pair (SOAT, section "panorama")."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gan_core.compose.operations import join
from gan_core.errors import ParamsError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import DIMENSION, Axis

SIGMA = 0.7


def smooth(codes: Tensor, sigma: float = SIGMA, centre: Tensor | float = 0.0) -> Tensor:
    """Average each code with its neighbours, so that neighbours resemble each other: ``[n, ...]`` -> ``[n, ...]``.

    A Gaussian along the first axis, circular, cut off at 4 sigma. Then one factor for all gives the codes (less
    ``centre``) back the root mean square that they had: for ``z``, whose own is 1, this is the published division.
    """
    radius = int(4 * sigma + 0.5)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma).square())
    weights = (taps / taps.sum()).tolist()
    offset = (codes - centre).double()
    shifts = range(-radius, radius + 1)
    soft = torch.stack([w * offset.roll(k, 0) for k, w in zip(shifts, weights, strict=True)]).sum(0)
    return (centre + soft * (_rms(offset) / _rms(soft))).to(codes)


def smooth_z(z: Tensor, sigma: float = SIGMA) -> Tensor:
    """Smooth ``z [n, z_dim]`` as published: afterwards the root mean square over all entries is 1."""
    soft = smooth(z, sigma)
    return (soft / _rms(soft)).to(z)


def panorama_strips(
    generator: StyleGAN2, w_plus: Tensor, axis: Axis = "horizontal", wrap: bool = False
) -> Iterator[Tensor]:
    """Yield a panorama of ``w_plus [n, n_latent, w_dim]`` in strips ``[1, 3, H, W]`` to be set one after the other.

    Each strip is one walk of a pair, cut in the middle of both of its pictures. In all they are ``n`` pictures long;
    with ``wrap`` the end goes over into the beginning. Raises ``ParamsError`` for fewer than two pictures.
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
    """Return the panorama of ``panorama_strips`` whole, ``[1, 3, H, W]``.

    With ``wrap`` it begins in the middle of the first picture, where the end of the last strip meets it. Beside the
    panorama itself, no more than two pair images are in memory, however long it is.
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
    """Mean absolute step across the ``joins`` (positions of the first pixel behind each) over that everywhere else.

    ``image [1, 3, H, W]``; above 1 lines are seen at the joins, below they are smoother than the rest.
    """
    dimension = DIMENSION[axis]
    steps = image.diff(dim=dimension).abs().mean([d for d in range(4) if d != dimension])
    at = torch.zeros(len(steps), dtype=torch.bool)
    at[torch.tensor(joins) - 1] = True
    return float(steps[at].mean() / steps[~at].mean())


def joins_of(n: int, size: int, wrap: bool = False) -> list[int]:
    """Return where neighbours of a panorama of ``n`` pictures of ``size`` pixels meet, in the middle of each pair."""
    return [size * i + size // 2 for i in range(n)] if wrap else [size * i for i in range(1, n)]


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt().clamp_min(1e-12)
