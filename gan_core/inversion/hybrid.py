"""Hybrid refinement (Cao et al. 2023, DHR): weights for what the generator knows, and a feature map for the rest.

A mask divides the picture. Where it is 1 the weights are tuned; elsewhere the map that enters one layer becomes free,
``f * mask + feature * (1 - mask)``, and is fitted by itself. Edits keep the feature and the mask.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.errors import DataError
from gan_core.generators.base import Generator
from gan_core.geometry import framed_like
from gan_core.inversion.features import side_of
from gan_core.inversion.weights import RowWeights
from gan_core.judges.perceptual import PerceptualLoss
from gan_core.stopping import check_stop

FEATURE, MASK = "feature", "mask"
"""Names in a row's ``delta``, each followed by ``.`` and the number of the layer."""
NEAR = 4.0
"""Of 1.5, 2.5 and 4 the one whose edits move as far as those of weights alone (.36, .50, .54 and .54; LPIPS .0059,
.0062, .0066 and .0069: ten held-out toy portraits, three edits)."""
Delta = dict[str, Tensor]


@dataclass(frozen=True)
class Blend:
    """The map ``feature [C, h, w]`` that enters the convolution ``convs[layer]`` where ``mask [1, h, w]`` is 0."""

    layer: int
    feature: Tensor
    mask: Tensor

    @contextmanager
    def injected(self, generator: Generator) -> Iterator[None]:
        """Give it to everything that ``generator`` draws in a block, whole pictures of its own size.

        Raises ``DataError`` for a generator whose layer has another shape.
        """

        def change(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            maps, *rest = given
            if maps.shape[1:] != self.feature.shape:
                raise DataError(
                    f"a row has a feature of {list(self.feature.shape)} for convs.{self.layer}, where this generator "
                    f"draws {list(maps.shape[1:])}: draw it whole, by the generator that it was made for"
                )
            feature, mask = self.feature.to(maps), self.mask.to(maps)
            return (maps * mask + feature * (1 - mask), *rest)

        hook = generator.get_submodule(f"convs.{self.layer}").register_forward_pre_hook(change)
        try:
            yield
        finally:
            hook.remove()

    def as_delta(self) -> Delta:
        """Return what a row's ``delta`` has of it."""
        return {f"{FEATURE}.{self.layer}": self.feature, f"{MASK}.{self.layer}": self.mask}


def pop_blend(delta: Delta) -> Blend | None:
    """Take the blend out of a row's ``delta``, if it has one; raises ``DataError`` without its mask."""
    name = next((name for name in delta if name.startswith(f"{FEATURE}.")), None)
    if name is None:
        return None
    feature, mask = delta.pop(name), delta.pop(name.replace(FEATURE, MASK), None)
    if mask is None:
        raise DataError("a row has a feature without its mask: run the tune stage again")
    return Blend(int(name.rpartition(".")[2]), feature, mask)


@dataclass(frozen=True)
class Hybrid:
    """How to refine; by default as published, where ``layer`` is 10 for 1024 px (the map of 128 px).

    Adam fits the feature for ``steps`` steps, and the weights for the first ``weight_steps`` of them.
    """

    layer: int
    steps: int = 100
    weight_steps: int = 50
    feature_lr: float = 0.09
    weight_lr: float = 0.0015
    l2_weight: float = 1.0
    perceptual_weight: float = 1.0


def layer_for(size: int) -> int:
    """Return the layer of a generator of ``size`` pixels: its maps have an eighth of the side, and 16 px or more."""
    side = min(max(size // 8, 16), size // 2)
    return 2 * (side.bit_length() - 3)


@dataclass(frozen=True)
class Refined:
    """One row after hybrid refinement.

    ``delta`` has its weight differences; ``losses`` are those outside and inside the mask before each step.
    """

    delta: Delta
    blend: Blend
    losses: list[tuple[float, float]]


def refine_hybrid(
    weights: RowWeights, w_plus: Tensor, target: Tensor, mask: Tensor, loss: PerceptualLoss, recipe: Hybrid
) -> Refined:
    """Refine one row, whose ``weights`` are those of a ``RowWeights`` of one row with Adam as published.

    ``w_plus [1, n_latent, w_dim]`` is fixed; ``target [1, 3, S, S]`` is in [-1, 1], of the generator's size or smaller;
    ``mask [1, 1, S, S]`` is 1 where weights are tuned. Each step draws once. The gradient of the loss outside changes
    the feature alone, and that of the loss inside the weights alone. Where a part is empty, its loss is 0.
    Raises ``ValueError`` for weights that are tuned from a resolution above that of the recipe's layer.
    """
    generator = weights.generator
    if weights.resolution > side_of(recipe.layer):
        raise ValueError(f"convs.{recipe.layer} lies below the {weights.resolution} px from which weights are tuned")
    below = generator.lower(w_plus, weights.resolution)
    feature = entering(generator, w_plus, recipe.layer).requires_grad_()
    small = F.adaptive_avg_pool2d(mask, (feature.shape[2], feature.shape[3]))
    parts = (1 - mask, 1 - small), (mask, small)
    adam = torch.optim.Adam([feature], recipe.feature_lr)
    losses: list[tuple[float, float]] = []
    for step in range(recipe.steps):
        check_stop()
        with Blend(recipe.layer, feature[0], small[0]).injected(generator):
            drawn = weights.draw(below, w_plus)
        outside, inside = (masked_loss(drawn, target, *part, loss, recipe) for part in parts)
        losses.append((outside.item(), inside.item()))
        tunes = step < recipe.weight_steps
        (feature.grad,) = torch.autograd.grad(outside, [feature], retain_graph=tunes)
        if tunes:
            inside.backward(inputs=list(weights.values.values()))  # grad() lays them out as fused Adam doesn't expect
            weights.move(recipe.weight_lr, None)
        adam.step()
    return Refined(weights.deltas([0])[0], Blend(recipe.layer, feature.detach()[0], small[0]), losses)


@torch.no_grad()
def entering(generator: Generator, w_plus: Tensor, layer: int) -> Tensor:
    """Return the maps ``[B, C, h, w]`` that enter ``convs[layer]``."""
    found: list[Tensor] = []
    hook = generator.get_submodule(f"convs.{layer}").register_forward_pre_hook(lambda _, given: found.append(given[0]))
    try:
        generator.synthesis(w_plus)
    finally:
        hook.remove()
    return found[0]


@torch.no_grad()
def known_part(drawn: Tensor, target: Tensor, loss: PerceptualLoss) -> Tensor:
    """Return a mask ``[1, 1, S, S]``: 1 where a picture ``drawn`` is near ``target``, both ``[1, 3, S, S]``.

    Near is a perceptual distance, averaged around a pixel, below ``NEAR`` of the whole picture's. (As published it is
    one that is averaged over superpixels, below a limit for each class of a face parser.)
    """
    maps = [F.interpolate(each[:, None], target.shape[-2:], mode="bilinear") for each in loss.spatial(drawn, target)]
    distance = torch.stack(maps).sum(0)
    around = 2 * (target.shape[-1] // 32) + 1
    smooth = F.avg_pool2d(distance, around, 1, around // 2, count_include_pad=False)
    return (smooth < NEAR * distance.mean()).to(distance)


def masked_loss(
    drawn: Tensor, target: Tensor, mask: Tensor, small: Tensor, loss: PerceptualLoss, recipe: Hybrid
) -> Tensor:
    """Return the weighted sum of squared error and LPIPS of pictures ``[1, 3, S, S]`` over the part where a mask is 1.

    The squared error is summed over channels, as published.
    ``mask [1, 1, S, S]`` weighs pixels; ``small [1, 1, h, w]``, its mean over blocks, weighs the maps of the trunk.
    """
    drawn = framed_like(drawn, target)
    l2 = _mean((drawn - target).square().sum(1, keepdim=True), mask)
    maps = [each[:, None] for each in loss.spatial(drawn, target)]
    lpips = torch.stack([_mean(each, F.interpolate(small, each.shape[-2:])) for each in maps]).sum()
    return recipe.l2_weight * l2 + recipe.perceptual_weight * lpips


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1e-12)
