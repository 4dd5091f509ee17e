"""Codes of a latent space as flat vectors, and the coordinates in which paths run through it."""

import torch
from torch import Tensor, nn

from gan_core.device import place
from gan_core.errors import ParamsError, near_matches
from gan_core.generators.base import Generator

SPACES = ("z", "w", "w_plus")


class Frame(nn.Module):
    """Coordinates ``[B, rank]`` of codes ``[B, width]`` along orthonormal ``axes``, in units of ``scale``.

    A change of coordinates doesn't change the part of a code that is orthogonal to all axes.
    """

    centre: Tensor
    axes: Tensor
    scale: Tensor

    def __init__(self, width: int, rank: int | None = None) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("axes", torch.eye(width)[: rank or width])
        self.register_buffer("scale", torch.ones(rank or width))

    @classmethod
    def principal(cls, codes: Tensor, rank: int) -> "Frame":
        """Build the frame of the ``rank`` leading principal axes of ``codes [N, width]``, in standard deviations.

        Raises ``ParamsError`` if the codes vary in fewer directions.
        """
        centred = (codes - codes.mean(0)).cpu().double()
        _, spread, axes = torch.linalg.svd(centred, full_matrices=False)
        if rank > len(spread) or spread[rank - 1] < 1e-6 * spread[0]:
            raise ParamsError(
                f"rank {rank} is too much: these codes spread in {int((spread > 1e-6 * spread[0]).sum())}"
            )
        frame = cls(codes.shape[1], rank)
        frame.centre.copy_(codes.mean(0))
        frame.axes.copy_(axes[:rank])
        frame.scale.copy_(spread[:rank] / (len(codes) - 1) ** 0.5)
        return frame

    def coordinates(self, codes: Tensor) -> Tensor:
        """Return the coordinates ``[B, rank]`` of codes ``[B, width]``."""
        return (codes - self.centre) @ self.axes.t() / self.scale

    def moved(self, codes: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Apply the change from ``before`` to ``after``, both ``[B, rank]``, to ``codes [B, width]``."""
        return codes + ((after - before) * self.scale) @ self.axes


def check_space(generator: Generator, space: str) -> None:
    """Raise ``ParamsError`` if paths can't run through ``space`` of this generator."""
    possible = [name for name in SPACES if name in generator.spaces and (name != "w" or not generator.per_layer)]
    if space not in possible:
        raise ParamsError(f"{generator.family} has no space {space!r} for paths{near_matches(space, possible)}")


def code_width(generator: Generator, space: str) -> int:
    """Return the number of dimensions of a code of ``space`` (``z``, ``w`` or ``w_plus``)."""
    return {"z": generator.z_dim, "w": generator.w_dim, "w_plus": generator.n_latent * generator.w_dim}[space]


@torch.no_grad()
def sample_codes(generator: Generator, space: str, n: int, stream: torch.Generator) -> Tensor:
    """Sample codes ``[n, width]``; a code of ``w_plus`` switches between two ``w`` at a random layer."""
    z = place(torch.randn(n, generator.z_dim, generator=stream))
    if space == "z":
        return z
    w = generator.mapping(z)
    if space == "w":
        return w
    other = generator.mapping(place(torch.randn(n, generator.z_dim, generator=stream)))
    crossover = torch.randint(1, generator.n_latent + 1, (n, 1, 1), generator=stream)
    upper = place(torch.arange(generator.n_latent)[None, :, None] >= crossover)
    return torch.where(upper, generator.broadcast(other), generator.broadcast(w)).flatten(1)


def codes_to_w_plus(generator: Generator, space: str, codes: Tensor) -> Tensor:
    """Convert codes ``[B, width]`` to the latents of ``synthesis``, ``[B, n_latent, w_dim]``."""
    if space == "w_plus":
        return codes.unflatten(1, (generator.n_latent, generator.w_dim))
    return generator.broadcast(generator.mapping(codes) if space == "z" else codes)
