"""Apply a direction to latents."""

from torch import Tensor

from gan_core.editing.directions import Direction
from gan_core.errors import ParamsError


def apply_edit(w_plus: Tensor, direction: Direction, strength: float, layers: tuple[int, int] | None = None) -> Tensor:
    """Move ``w_plus [B, n_latent, w_dim]`` by ``strength`` units of ``direction`` in ``layers`` (first, past the last).

    ``layers`` defaults to the direction's own layers, or all. Other layers are returned unchanged. A direction with an
    ``origin`` moves latents to the position ``strength``; their current position is that of the first layer. Raises
    ``ParamsError`` for layers that the latents don't have, and for a direction of another width.
    """
    first, last = check_layers(layers or direction.layers, w_plus.shape[1], direction.name)
    vector = direction.vector.to(w_plus)
    if vector.shape not in (w_plus.shape[2:], w_plus.shape[1:]):
        raise ParamsError(
            f"direction {direction.name!r} is {list(vector.shape)}, latents are {list(w_plus.shape[1:])}: "
            "it was made for another generator"
        )
    moves = w_plus.new_full((len(w_plus), 1, 1), 1.0) * strength  # a strength beyond float32 is infinity
    if direction.origin is not None:
        along = vector if vector.dim() == 1 else vector[0]
        moves = moves - (w_plus[:, :1] @ along[:, None] / along.square().sum() - direction.origin)
    edited = w_plus.clone()
    edited[:, first:last] += moves * vector.expand(w_plus.shape[1:])[first:last]
    return edited


def check_layers(layers: tuple[int, int] | None, n_latent: int, name: str) -> tuple[int, int]:
    """Return ``layers``, or all layers for ``None``; raises ``ParamsError`` for an empty or too large range."""
    first, last = layers or (0, n_latent)
    if not 0 <= first < last <= n_latent:
        raise ParamsError(
            f"layers {[first, last]} of {name!r} are not among this generator's {n_latent} latents: give the first and "
            f"the one past the last, from 0 to {n_latent}"
        )
    return first, last
