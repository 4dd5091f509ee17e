"""Unsupervised directions: SeFa, closed-form factorisation, and the principal components of GANSpace."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gan_core.checkpoints.files import Loaded
from gan_core.device import place
from gan_core.editing.apply import check_layers
from gan_core.editing.directions import Direction
from gan_core.errors import ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.generators.layers import StyledConv, ToRGB
from gan_core.generators.proggan import ProgGAN, ScaledConv
from gan_core.generators.stylegan2 import StyleGAN2

SAMPLES = 10_000
"""Codes of the principal component analysis."""


@torch.no_grad()
def sefa(weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return eigenvalues ``[d]``, largest first, and unit eigenvectors ``[d, d]`` (rows) of ``A' A``.

    ``A`` is all ``weights [C_i, d]`` stacked, each row scaled to unit length (Shen and Zhou 2021, section 3.2 and the
    published code).
    """
    a = torch.cat([weight / weight.norm(dim=1, keepdim=True) for weight in weights]).cpu().double()
    values, vectors = torch.linalg.eigh(a.t() @ a)
    return values.flip(0).float(), vectors.flip(1).t().float()


def sefa_weights(generator: Generator, layers: Sequence[int] | None = None) -> list[Tensor]:
    """Return the weights ``[C_i, d]`` that map latents to styles.

    For StyleGAN2 they are those of the convolutions that read the latents ``layers`` (default all), and of the last
    ToRGB for the last latent. For ProgGAN it is the first convolution, without a choice of layers. Raises
    ``ParamsError`` for other families.
    """
    if isinstance(generator, ProgGAN):
        first = generator.features[0]
        assert isinstance(first, ScaledConv)
        return [first.conv.weight.flip(2, 3).permute(1, 0, 2, 3).flatten(1).t()]
    if not isinstance(generator, StyleGAN2):
        raise ParamsError(f"{generator.family} has no weights that SeFa could factorise: stylegan2 and proggan do")
    convolutions = [layer for layer, _ in generator.layers() if isinstance(layer, StyledConv)]
    modulated: list[StyledConv | ToRGB] = [*convolutions, generator.layers()[-1][0]]
    chosen = range(len(modulated)) if layers is None else layers
    return [modulated[i].conv.modulation.weight for i in chosen]


@torch.no_grad()
def closed_form(generator: StyleGAN2) -> tuple[Tensor, Tensor]:
    """Return singular values ``[d]`` and directions ``[d, d]`` (rows) of all stacked modulation weights.

    As in rosinality's script, only the first ToRGB layer is included.
    """
    convolutions = [layer for layer, _ in generator.layers() if isinstance(layer, StyledConv)]
    layers: list[StyledConv | ToRGB] = [*convolutions, generator.to_rgb1]
    stacked = torch.cat([layer.conv.modulation.weight for layer in layers]).cpu().double()
    _, values, directions = torch.linalg.svd(stacked, full_matrices=False)
    return values.float(), directions.float()


def principal_directions(codes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean ``[d]``, unit components ``[count, d]`` and deviations ``[count]`` of ``codes [N, d]``.

    Härkönen et al. 2020, section 2.1.
    """
    codes = codes.cpu()
    mean = codes.mean(0)
    _, spread, components = torch.linalg.svd((codes - mean).double(), full_matrices=False)
    return mean, components[:count].float(), (spread[:count] / (len(codes) - 1) ** 0.5).float()


@torch.no_grad()
def factorise(
    generator: Loaded[Generator], method: str, count: int, layers: tuple[int, int] | None = None
) -> list[Direction]:
    """Return the ``count`` leading directions by ``sefa``, ``closed-form`` or ``pca``, named ``<method>-<number>``.

    ``layers`` (first, past the last) are those that SeFa factorises and that the directions change. Directions of
    ``pca`` are as long as one standard deviation of 10,000 codes; the others have unit length. Raises ``ParamsError``
    for an unknown method, for a generator that the method can't factorise, for latents that it doesn't have, and
    for more directions than there are.
    """
    if method not in METHODS:
        raise ParamsError(f"unknown way to factorise {method!r}{near_matches(method, METHODS)}")
    if layers is not None:
        check_layers(layers, generator.model.n_latent, method)
    rows = _with_sign(METHODS[method](generator.model, count, None if layers is None else range(*layers)))
    if len(rows) < count:
        raise ParamsError(f"{generator.path} has {len(rows)} directions by {method}, not {count}: ask for fewer")
    unit = "one sigma" if method == "pca" else "a unit vector"
    space = "w" if "w" in generator.model.spaces else "z"
    return [
        Direction(f"{method}-{i}", row.clone(), generator.sha256, space, unit, layers=layers, method=method)
        for i, row in enumerate(rows)
    ]


def _with_sign(rows: Tensor) -> Tensor:
    """Give each row the sign that makes the sum of its cubes positive: that of a decomposition depends on the CPU."""
    return torch.where(rows.pow(3).sum(1, keepdim=True) < 0, -rows, rows)


def _sefa(generator: Generator, count: int, layers: Sequence[int] | None) -> Tensor:
    return sefa(sefa_weights(generator, layers))[1][:count]


def _closed_form(generator: Generator, count: int, layers: Sequence[int] | None) -> Tensor:
    if not isinstance(generator, StyleGAN2):
        raise ParamsError(f"{generator.family} has no modulation weights: closed-form needs a StyleGAN2")
    return closed_form(generator)[1][:count]


def _pca(generator: Generator, count: int, layers: Sequence[int] | None) -> Tensor:
    check_one_latent(generator)
    z = place(torch.randn(SAMPLES, generator.z_dim, generator=torch.Generator().manual_seed(0)))
    _, components, spread = principal_directions(generator.mapping(z), count)
    return components * spread[:, None]


def check_one_latent(generator: Generator) -> None:
    """Raise ``ParamsError`` for a generator that maps to a latent for each layer: a direction is for one for all."""
    if generator.per_layer:
        raise ParamsError(f"this {generator.family} has a latent for each layer: a direction is fitted to one for all")


METHODS: dict[str, Callable[[Generator, int, Sequence[int] | None], Tensor]] = {
    "sefa": _sefa,
    "closed-form": _closed_form,
    "pca": _pca,
}
