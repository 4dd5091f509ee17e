"""Refine a direction by gradient descent on the images of its edits."""

from dataclasses import replace

import torch
from torch import Tensor

from gan_core.editing.apply import check_layers
from gan_core.editing.directions import Direction
from gan_core.generators.base import Generator
from gan_core.judges.moves import direction_with_room
from gan_core.judges.scorers import Scorers, render_and_score

BATCH = 16
"""Random faces per step."""
RATE = 0.05
"""Learning rate of Adam, as a share of the RMS of the direction's entries."""
MOVE_WEIGHT = 10.0
SIDE_EFFECT_WEIGHT = 1.0
"""Weights of the squared error of the move and of the side effect; the weight of the identity is 1."""


def refine(
    generator: Generator, direction: Direction, scorers: Scorers, move: float, steps: int, seed: int = 0
) -> Direction:
    """Learn a better vector ``[n_latent, w_dim]`` for the direction's layers, starting from its own.

    Adam minimises ``10 (move - wanted)^2 + side effect - identity kept`` over new samples of the generator, each edited
    in the direction in which its attribute has room: the linear walk of Jahanian et al. 2020 (section 3.1) with an
    identity term. The result is the mean over the second half of the steps; ``scores`` are those of the start. Raises
    ``ValueError`` if no attribute has the direction's name.
    """
    first, last = check_layers(direction.layers, generator.n_latent, direction.name)
    vector = direction.vector.expand(generator.n_latent, -1)[first:last].clone().requires_grad_(True)
    optimiser = torch.optim.Adam([vector], RATE * direction.vector.square().mean().sqrt().item())
    random = torch.Generator().manual_seed(seed)
    mean = torch.zeros_like(vector)
    for step in range(steps):
        z = torch.randn(BATCH, generator.z_dim, generator=random).to(vector.device)
        loss = _loss(generator, z, vector, slice(first, last), scorers, scorers.names.index(direction.name), move)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if step >= steps // 2:
            mean += vector.detach() / (steps - steps // 2)
    refined = mean.new_zeros(generator.n_latent, generator.w_dim)
    refined[first:last] = mean
    return replace(direction, vector=refined, space="w_plus", method=f"{direction.method}, refined")


def _loss(
    generator: Generator, z: Tensor, vector: Tensor, layers: slice, scorers: Scorers, column: int, move: float
) -> Tensor:
    with torch.no_grad():
        w_plus = generator.broadcast(generator.mapping(z))
    before = render_and_score(generator, w_plus, scorers)
    signs = direction_with_room(before, column)
    edited = w_plus.clone()
    edited[:, layers] += signs[:, None, None] * vector
    images = generator.synthesis(edited)
    change = scorers.attributes(images) - before.attributes
    others = [i for i in range(len(scorers.names)) if i != column]
    short = (signs * change[:, column]).mean() - move
    kept = (scorers.identity(images) * before.identity).sum(1).mean()
    return MOVE_WEIGHT * short.square() + SIDE_EFFECT_WEIGHT * change[:, others].abs().mean() - kept
