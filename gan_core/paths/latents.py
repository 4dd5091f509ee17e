"""Move latents ``w_plus`` along paths through a space of codes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.paths.stored import SemanticPaths


def check_latents(paths: SemanticPaths, generator: Generator) -> None:
    """Raise ``ParamsError`` if the paths can't move ``w_plus [B, n_latent, w_dim]`` of this generator."""
    if paths.space == "z" and generator.n_latent > 1:
        raise ParamsError(
            f"these paths run through z, and latents of {generator.family} are in w_plus: choose paths in w or w_plus"
        )
    rows = generator.n_latent if paths.space == "w_plus" else 1
    if paths.frame.axes.shape[1] != rows * generator.w_dim:
        raise ParamsError(
            f"these paths run through codes of {paths.frame.axes.shape[1]} numbers, and this generator's have "
            f"{rows * generator.w_dim}: they were made for another one"
        )


def move_latents(
    paths: SemanticPaths,
    w_plus: Tensor,
    strengths: Mapping[str, float],
    layers: tuple[int, int] | None = None,
    truncation: float = 1.0,
) -> Tensor:
    """Move ``w_plus [B, n_latent, w_dim]`` along named paths.

    Paths in ``w`` (or in ``z`` of a generator with a single latent) move each latent of ``layers`` (first, past the
    last; all by default) separately; for equal latents this is the move of ``w``. Paths in ``w_plus`` move all latents
    together, whatever ``layers`` are. Paths in ``z`` run through codes that aren't multiplied with the generator's
    truncation yet: give its ``generator.truncation``, or moves are wrong where that isn't 1, as it may be for BigGAN.
    Paths in other spaces ignore it. Raises ``ParamsError`` for unknown names and for strengths outside of the measured
    range.
    """
    if paths.space == "w_plus":
        return paths.edit(w_plus.flatten(1), strengths).view_as(w_plus)
    first, last = layers or (0, w_plus.shape[1])
    scale = truncation if paths.space == "z" else 1.0
    codes = w_plus[:, first:last].flatten(0, 1) / scale
    moved = scale * paths.edit(codes, strengths).unflatten(0, (len(w_plus), last - first))
    return torch.cat([w_plus[:, :first], moved, w_plus[:, last:]], 1)
