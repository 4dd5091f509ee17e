"""Run the synthesis layers of StyleGAN2 from styles: plain synthesis, or two generators blended layer by layer.

Each operation of "StyleGAN of All Trades" (Chong et al. 2021, SOAT) runs ``walk`` once with its own ``Rule`` for
blending the features of two branches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from gan_core.generators.layers import StyledConv, ToRGB

Axis = Literal["horizontal", "vertical"]
DIMENSION: dict[Axis, int] = {"horizontal": 3, "vertical": 2}
Draw = Callable[[int, int], Tensor]
"""Draws a new noise map ``[B, 1, height, width]``."""
Share = Callable[[int, int, int], float | Tensor]
"""Returns the weight of the second branch, 0 to 1, for a layer's index, height and width.

The weight is a float for the whole layer (at 0 and 1 only one branch is computed), or ``[1 or B, 1, H, W]`` per pixel.
"""


@dataclass(frozen=True)
class Features:
    """The state after ``done`` layers: features ``x [B, C, H, W]`` and the image so far ``[B, 3, H, W]``."""

    x: Tensor
    image: Tensor | None = None
    done: int = 0


@dataclass(frozen=True)
class Step:
    """A modulated layer with its style ``[B, C]``, its noise and the clamp of its output.

    The noise is a map ``[B or 1, 1, h, w]``, which is extended to larger features, or drawn for them, or none.
    """

    layer: StyledConv | ToRGB
    style: Tensor
    noise: Tensor | Draw | None
    clamp: float | None

    def size(self, at: Features) -> tuple[int, int]:
        """Return height and width of the layer's output."""
        height, width = at.x.shape[2:]
        up = isinstance(self.layer, StyledConv) and self.layer.conv.blur is not None
        return (2 * height, 2 * width) if up else (height, width)

    def take(self, at: Features) -> Tensor:
        """Evaluate the layer: the next ``x [B, C, H, W]``, or for a ToRGB the next image ``[B, 3, H, W]``."""
        if isinstance(self.layer, ToRGB):
            return self.layer(at.x, self.style, at.image, self.clamp)
        return self.layer(at.x, self.style, self._noise(*self.size(at)), self.clamp)

    def _noise(self, height: int, width: int) -> Tensor | None:
        if self.noise is None:
            return None
        return fit_noise(self.noise, height, width) if isinstance(self.noise, Tensor) else self.noise(height, width)


@dataclass(frozen=True)
class Branch:
    """A generator with given styles: a step per layer, and the constant input."""

    steps: Sequence[Step]
    start: Features


def nothing(layer: int, height: int, width: int) -> float:
    """Return 0: the second branch is not used."""
    return 0.0


def unchanged(at: Features) -> Features:
    """Return the features unchanged."""
    return at


@dataclass(frozen=True)
class Rule:
    """How to combine two branches into one image.

    ``share`` is the weight of the second branch in each layer; both branches get the same blended input. With ``join``
    the two results of the first layer are concatenated along that axis instead. ``change`` is applied to the features
    after each layer.
    """

    share: Share = nothing
    join: Axis | None = None
    change: Callable[[Features], Features] = unchanged


PLAIN = Rule()


def walk(
    first: Branch,
    second: Branch | None = None,
    rule: Rule = PLAIN,
    at: Features | None = None,
    until: int | None = None,
) -> Features:
    """Run the layers from ``at`` (default: the first branch's start) until ``until`` are done (default: all)."""
    at = at or first.start
    for index in range(at.done, len(first.steps) if until is None else until):
        step = first.steps[index]
        result = step.take(at) if second is None else _blend(index, step, second.steps[index], rule, at)
        if isinstance(step.layer, ToRGB):
            at = rule.change(replace(at, image=result, done=index + 1))
        else:
            at = rule.change(replace(at, x=result, done=index + 1))
    return at


def _blend(index: int, first: Step, second: Step, rule: Rule, at: Features) -> Tensor:
    if index == 0 and rule.join is not None:
        return torch.cat([first.take(at), second.take(at)], DIMENSION[rule.join])
    share = rule.share(index, *first.size(at))
    if isinstance(share, Tensor):
        one, other = first.take(at), second.take(at)
        return torch.lerp(one, other, share.to(one))
    if share in (0, 1):
        return (second if share else first).take(at)
    return torch.lerp(first.take(at), second.take(at), share)


def fit_noise(noise: Tensor, height: int, width: int) -> Tensor:
    """Extend a noise map ``[B, 1, h, w]`` to ``[B, 1, height, width]``; a map that fits is returned unchanged.

    As published, the result is normal noise seeded by the new width (or height), and the stored map overwrites its left
    and its right end. At double width the result is the stored map twice.
    """
    for axis, length in ((3, width), (2, height)):
        known = noise.shape[axis]
        if known != length:
            shape = [*noise.shape[:axis], length, *noise.shape[axis + 1 :]]
            wide = torch.randn(shape, generator=torch.Generator().manual_seed(length)).to(noise)
            part = noise.narrow(axis, 0, min(known, length))
            wide.narrow(axis, 0, part.shape[axis]).copy_(part)
            wide.narrow(axis, length - part.shape[axis], part.shape[axis]).copy_(part)
            noise = wide
    return noise
