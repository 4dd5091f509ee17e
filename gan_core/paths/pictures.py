"""Strips of images that show the same latents at several strengths of one edit."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gan_core.device import place
from gan_core.editing.apply import apply_edit
from gan_core.editing.directions import find_direction, load_directions
from gan_core.editing.stylespace import move_styles
from gan_core.generators.base import Generator
from gan_core.loading import load_generator
from gan_core.paths.latents import check_latents, move_latents
from gan_core.paths.stored import load_paths

COLUMNS = 7
SEED = 0


def path_strip(
    file: str | Path, generator_path: str | Path, name: str, rows: int, ends: tuple[float, float] | None = None
) -> Tensor:
    """Draw ``rows`` latents along the named path of a file: ``[rows * COLUMNS, 3, H, W]`` around [-1, 1].

    Strengths run from one of ``ends`` to the other; the default is the measured range. Raises ``UserError`` for files
    that can't be used, an unknown name, and ends outside of the measured range.
    """
    loaded = load_generator(generator_path)
    generator, paths = loaded.model, load_paths(file, loaded).model
    check_latents(paths, generator)
    ends = ends or paths.find(name).range

    def draw(w_plus: Tensor, strength: float) -> Tensor:
        return generator.synthesis(move_latents(paths, w_plus, {name: strength}, truncation=generator.truncation))

    return strip_of(generator, draw, ends, rows)


def direction_strip(
    file: str | Path, generator_path: str | Path, name: str, rows: int, ends: tuple[float, float] | None = None
) -> Tensor:
    """Draw ``rows`` latents along the named direction of a file: ``[rows * COLUMNS, 3, H, W]``, see ``path_strip``."""
    loaded = load_generator(generator_path)
    direction = find_direction(load_directions(file, loaded).model, name)
    generator, ends = loaded.model, ends or direction.range
    if direction.space == "s":
        return strip_of(generator, lambda w, t: move_styles(generator, w, direction.vector, t), ends, rows)
    return strip_of(generator, lambda w, t: generator.synthesis(apply_edit(w, direction, t)), ends, rows)


@torch.no_grad()
def strip_of(
    generator: Generator, draw: Callable[[Tensor, float], Tensor], ends: tuple[float, float], rows: int
) -> Tensor:
    """Draw the same ``rows`` random latents at ``COLUMNS`` strengths between ``ends``: ``[rows * COLUMNS, 3, H, W]``.

    ``draw`` maps ``w_plus [rows, n_latent, w_dim]`` and a strength to images. The images of a row are consecutive.
    """
    z = place(torch.randn(rows, generator.z_dim, generator=torch.Generator().manual_seed(SEED)))
    w_plus = generator.broadcast(generator.mapping(z))
    columns = [draw(w_plus, t) for t in torch.linspace(*ends, COLUMNS).tolist()]
    return torch.stack(columns, 1).flatten(0, 1)
