"""Directions in StyleSpace (Wu et al. 2021): one number per channel of each layer's style.

Flat vectors concatenate the styles in the order of evaluation, including those of the ToRGB layers. Published vectors
leave out ToRGB, which they never change.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gan_core.checkpoints.arrays import read_arrays
from gan_core.device import place
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.layers import ToRGB
from gan_core.generators.stylegan2 import StyleGAN2

SAMPLES, SEED, PSI, CUTOFF = 2000, 5, 0.7, 8
"""The random latents over which deviations of channels are computed, their truncation, and the first without it."""


def with_styles(generator: Generator) -> StyleGAN2:
    """Return a generator that has styles; raises ``ParamsError`` for another family."""
    if not isinstance(generator, StyleGAN2):
        raise ParamsError(f"edits: {generator.family} has no StyleSpace: edits of styles need a StyleGAN2")
    return generator


def style_widths(generator: Generator) -> list[int]:
    """Return the channels of each style; raises ``ParamsError`` for a generator without styles."""
    return [layer.conv.modulation.weight.shape[0] for layer, _ in with_styles(generator).layers()]


@torch.no_grad()
def style_deviations(generator: Generator) -> list[Tensor]:
    """Return the standard deviations ``[channels]`` of each layer's style over 2,000 random latents.

    As in the published code of StyleCLIP, which uses 100,000, layers of the first eight latents are truncated by 0.7
    and the others not at all. Raises ``ParamsError`` for a generator without styles.
    """
    styled = with_styles(generator)
    z = place(torch.randn(SAMPLES, generator.z_dim, generator=torch.Generator().manual_seed(SEED)))
    w_plus = generator.broadcast(generator.mapping(z))
    cut = generator.truncate(w_plus[:, :CUTOFF], PSI)
    return [style.std(0) for style in styled.styles(torch.cat([cut, w_plus[:, CUTOFF:]], 1))]


def is_truncated(generator: Generator, layer: int) -> bool:
    """Tell whether the deviations of a style layer, counted in the order of evaluation, are of truncated latents."""
    return with_styles(generator).layers()[layer][1] < CUTOFF


def move_styles(generator: Generator, w_plus: Tensor, vector: Tensor, strength: float) -> Tensor:
    """Draw images ``[B, 3, size, size]`` of ``w_plus [B, n_latent, w_dim]`` with ``strength * vector`` added to styles.

    ``vector [N]`` is flat. Raises ``ParamsError`` for a generator without styles.
    """
    styled = with_styles(generator)
    styles = styled.styles(w_plus)
    moves = (strength * vector).to(w_plus).split([style.shape[1] for style in styles])
    moved = [style + move for style, move in zip(styles, moves, strict=True)]
    return styled.synthesis_from_styles(moved)


def check_styles(vector: Tensor, generator: Generator, name: str) -> None:
    """Raise ``ParamsError`` unless ``vector [N]`` has a number for every channel of the generator's styles."""
    if vector.shape != (sum(style_widths(generator)),):
        raise ParamsError(_misfit(name, vector.numel(), generator))


def read_style_vector(path: str | Path, generator: Generator) -> Tensor:
    """Read a flat vector ``[N]`` or ``[1, N]``, or a list of one array per layer; return it over all styles, ``[N]``.

    Raises ``CheckpointError`` if the number of channels is not that of the generator, with or without ToRGB.
    """
    content = read_arrays(path)
    parts = content if isinstance(content, list) else [content]
    tensors = [part.detach().float().flatten() for part in parts if isinstance(part, Tensor)]
    if len(tensors) != len(parts):
        raise CheckpointError(
            f"{path} is neither a flat vector of styles nor a list of one tensor per layer: name a file of a "
            "direction in StyleSpace"
        )
    return _over_all_styles(torch.cat(tensors), generator, path)


def text_direction(relevance: str | Path, text: str | Path, beta: float, generator: Generator) -> Tensor:
    """Return StyleCLIP's global direction ``[N]`` for a text (Patashnik et al. 2021, section 6).

    ``relevance`` is the published file ``fs3.npy [C, D]`` of the generator, and ``text`` a file with the difference
    ``[D]`` of two text embeddings. Channels whose relevance is below ``beta`` are not changed; the most relevant one
    moves by one standard deviation per unit of strength. Raises ``CheckpointError`` for files that don't fit each other
    or the generator, and ``ParamsError`` if no channel is as relevant as ``beta``.
    """
    rows, wanted = read_arrays(relevance), read_arrays(text)
    if not isinstance(rows, Tensor) or not isinstance(wanted, Tensor) or rows.dim() != 2:
        raise CheckpointError(f"{relevance} and {text} must be arrays: name files with [channels, D] and [D]")
    if wanted.numel() != rows.shape[1]:
        raise CheckpointError(
            f"{text} has {wanted.numel()} numbers, {relevance} has {rows.shape[1]} per channel: name files that "
            "were made with the same CLIP network"
        )
    found = rows.float() @ torch.nn.functional.normalize(wanted.float().flatten(), dim=0)
    found = torch.where(found.abs() < beta, 0.0, found)
    if not found.any():
        raise ParamsError(f"no channel is as relevant as {beta:g}: lower --beta")
    plain = sum(_plain_widths(generator))
    if len(found) > plain:
        raise CheckpointError(_misfit(relevance, len(found), generator))
    padded = torch.nn.functional.pad(found / found.abs().max(), (0, plain - len(found)))
    return _over_all_styles(padded, generator, relevance) * torch.cat(style_deviations(generator)).cpu()


def _over_all_styles(vector: Tensor, generator: Generator, where: str | Path) -> Tensor:
    widths = style_widths(generator)
    if len(vector) == sum(widths):
        return vector
    if len(vector) != sum(_plain_widths(generator)):
        raise CheckpointError(_misfit(where, len(vector), generator))
    parts = iter(vector.split(_plain_widths(generator)))
    coloured = _coloured(generator)
    return torch.cat([vector.new_zeros(n) if rgb else next(parts) for n, rgb in zip(widths, coloured, strict=True)])


def _plain_widths(generator: Generator) -> list[int]:
    return [n for n, rgb in zip(style_widths(generator), _coloured(generator), strict=True) if not rgb]


def _coloured(generator: Generator) -> Sequence[bool]:
    return [isinstance(layer, ToRGB) for layer, _ in with_styles(generator).layers()]


def _misfit(where: str | Path, count: int, generator: Generator) -> str:
    return (
        f"{where} has {count} style channels, this generator {sum(style_widths(generator))} "
        f"({sum(_plain_widths(generator))} without ToRGB): it was made for another one"
    )
