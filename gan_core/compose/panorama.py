"""Panoramas of any number of pictures, streamed pair by pair (SOAT, section "panorama")."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


@dataclass
class Seams:
    """What is seen at the joins of a panorama, gathered strip by strip.

    Both strips at a join know one more column than they show: the other's first or last. So the ``step`` across joins
    can be held against the ``usual`` one at the same place of a picture that isn't cut, and ``mismatch`` is how far the
    two drawings of one column differ. All are sums of mean absolute differences.
    """

    step: float = 0.0
    usual: float = 0.0
    mismatch: float = 0.0

    @property
    def ratio(self) -> float | None:
        """Step across the joins over the usual one: 1 is no seam; ``None`` without a join."""
        return self.step / self.usual if self.usual else None

    def add(self, before: Tensor, after: Tensor, half: int, dimension: int) -> None:
        """Look at the join between two neighbouring pair images, each cut ``half`` a picture from its end."""
        length = before.shape[dimension]
        left, over = (before.select(dimension, length - half + k) for k in (-1, 0))
        under, right = (after.select(dimension, half + k) for k in (-1, 0))
        self.step += float((right - left).abs().mean())
        self.usual += float((over - left).abs().mean() + (right - under).abs().mean()) / 2
        self.mismatch += float((over - right).abs().mean() + (left - under).abs().mean()) / 2


def panorama_strips(
    generator: StyleGAN2, w_plus: Tensor, axis: Axis = "horizontal", wrap: bool = False, seams: Seams | None = None
) -> Iterator[Tensor]:
    """Yield a panorama of ``w_plus [n, n_latent, w_dim]`` in strips ``[1, 3, H, W]`` to be set one after the other.

    Each strip is one walk of a pair; only the one before is held, for ``seams``. In all they are ``n`` pictures long;
    with ``wrap`` the end goes over into the beginning. Raises ``ParamsError`` for fewer than two pictures.
    """
    if len(w_plus) < 2:
        raise ParamsError(f"a panorama of {len(w_plus)}: give at least 2 pictures")
    size, half, dimension = generator.size, generator.size // 2, DIMENSION[axis]
    pairs = len(w_plus) if wrap else len(w_plus) - 1
    style, earlier = generator.styles(w_plus[:1]), None
    for i in range(pairs):
        following = generator.styles(w_plus[(i + 1) % len(w_plus)][None])
        image = join(generator.branch(style), generator.branch(following), axis)
        if seams is not None and earlier is not None:
            seams.add(earlier, image, half, dimension)
        first = 0 if i == 0 and not wrap else half
        last = 2 * size if i == pairs - 1 and not wrap else 2 * size - half
        yield image.narrow(dimension, first, last - first)
        style, earlier = following, image


def panorama(
    generator: StyleGAN2, w_plus: Tensor, axis: Axis = "horizontal", wrap: bool = False, seams: Seams | None = None
) -> Tensor:
    """Return the panorama of ``panorama_strips`` whole, ``[1, 3, H, W]``.

    With ``wrap`` it begins in the middle of the first picture, where the end of the last strip meets it. Beside the
    panorama itself, no more than two pair images are in memory, however long it is.
    """
    dimension, at = DIMENSION[axis], 0
    height, width = (len(w_plus) * generator.size if dimension == d else generator.size for d in (2, 3))
    image = torch.empty(1, 3, height, width, device=w_plus.device)
    for strip in panorama_strips(generator, w_plus, axis, wrap, seams):
        length = strip.shape[dimension]
        image.narrow(dimension, at, length).copy_(strip)
        at += length
    return image


def seam_score(image: Tensor, joins: Sequence[int], axis: Axis = "horizontal") -> float:
    """Mean absolute step across the ``joins`` (positions of the first pixel behind each) over that everywhere else.

    ``image [1, 3, H, W]``; 1 means that joins can't be told from the rest.
    """
    dimension = DIMENSION[axis]
    steps = image.diff(dim=dimension).abs().mean([d for d in range(4) if d != dimension])
    at = torch.zeros(len(steps), dtype=torch.bool)
    at[torch.tensor(joins) - 1] = True
    return float(steps[at].mean() / steps[~at].mean())


def joins_of(n: int, size: int, wrap: bool = False) -> list[int]:
    """Return where strips meet in a panorama of ``n`` pictures of ``size`` pixels (with ``wrap``, its ends as well)."""
    return [size * i for i in range(1, n)] if wrap else [size * i + size // 2 for i in range(1, n - 1)]


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt().clamp_min(1e-12)
