"""Style mixing: other styles on chosen layers of a latent (Richardson et al. 2021, section 4.3: ``latent_mask``)."""

import torch
from torch import Tensor

from gan_core.editing.apply import check_layers
from gan_core.generators.base import Generator


def mix_styles(w_plus: Tensor, styles: Tensor | None, layers: tuple[int, int], alpha: float = 1.0) -> Tensor:
    """Blend ``styles [B or 1, n_latent, w_dim]`` into ``w_plus [B, n_latent, w_dim]`` on layers [first, past the last).

    There ``alpha * styles + (1 - alpha) * w_plus``: 1 replaces. No styles stand for the published code's zeros. Raises
    ``ParamsError`` for layers that the generator doesn't have.
    """
    first, end = check_layers(layers, w_plus.shape[1], "style mixing")
    mixed = w_plus.clone()
    inside = torch.zeros_like(w_plus[:, first:end]) if styles is None else styles[:, first:end]
    mixed[:, first:end] = alpha * inside + (1 - alpha) * w_plus[:, first:end]
    return mixed


@torch.no_grad()
def random_styles(generator: Generator, seed: int, count: int) -> Tensor:
    """``count`` styles ``[count, n_latent, w_dim]`` of the generator's own latents, from a seed."""
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    return generator.broadcast(generator.mapping(z))
