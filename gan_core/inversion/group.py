"""One tuned generator for a group of images, for instance of one person (Roich et al. 2021, section 4.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gan_core.generators.base import Generator
from gan_core.inversion.locality import Locality, Perceptual
from gan_core.inversion.objective import Losses, objective, read_losses
from gan_core.inversion.pti import Budget, Tuned, in_precision, learning_rate
from gan_core.inversion.weights import RowWeights
from gan_core.params import TuneParams
from gan_core.stopping import check_stop


@torch.enable_grad()
def tune_group(
    generator: Generator, pivots: Tensor, targets: Tensor, loss: Perceptual, params: TuneParams, seeds: Sequence[int]
) -> list[Tuned]:
    """Tune one copy of ``generator`` to all ``pivots [B, n_latent, w_dim]`` and ``targets [B, 3, H, W]`` in [-1, 1].

    As in the published code there are ``params.steps`` rounds, each with one step of Adam per image, and no early stop.
    The results share one ``delta``, which is empty if the group's summed objective ends above that of the untuned
    generator. The first losses of each result are those of the untuned generator, too.
    """
    worker, rows = in_precision(generator, params), range(len(pivots))
    weights = RowWeights(worker, params.min_resolution, 1, params.betas)
    with torch.no_grad():
        below = [worker.lower(pivot, params.min_resolution) for pivot in pivots.split(1)]
        seen = [[objective(weights.draw(below[r], pivots[[r]]), targets[[r]], loss, params)[1]] for r in rows]
    around = [Locality(worker, pivots[[r]], loss, params.locality_alpha, [seeds[r]]) for r in rows]
    images = [targets[[r]] for r in rows]
    for turn in range(params.steps + 1):
        check_stop()
        rate = learning_rate(Budget(params.steps, params.lr), turn, params.lr_rampdown) if turn < params.steps else 0.0
        for row in rows:
            image = weights.draw(below[row], pivots[[row]])
            total, terms = objective(image, targets[[row]], loss, params)
            if turn:
                seen[row].append(terms)
            images[row] = image.detach()
            if rate:
                total.sum().backward()
                if params.locality_weight:
                    (params.locality_weight * around[row](weights).sum()).backward()
                weights.step(torch.tensor([rate]))
    losses = [[step[0] for step in read_losses(terms)] for terms in seen]
    return _outcomes(generator, pivots, images, losses, weights.deltas([0])[0])


@torch.no_grad()
def _outcomes(
    generator: Generator, pivots: Tensor, images: list[Tensor], losses: list[list[Losses]], delta: dict[str, Tensor]
) -> list[Tuned]:
    first, last = (sum(row[turn].total for row in losses) for turn in (0, -1))
    steps = len(losses[0]) - 1
    if not last <= first:
        drawn = [generator.synthesis(pivot) for pivot in pivots.split(1)]
        return [Tuned({}, image, steps, row, "diverged") for image, row in zip(drawn, losses, strict=True)]
    return [Tuned(delta, image, steps, row, "steps") for image, row in zip(images, losses, strict=True)]
