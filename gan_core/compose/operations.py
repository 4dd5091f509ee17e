"""The operations of "StyleGAN of All Trades" (Chong et al. 2021, SOAT).

Each runs the synthesis layers once with its own rule for blending the features of two generators. A branch
(``StyleGAN2.branch``) is a generator with given styles. Images are ``[B, 3, H, W]``, clamped to [-1, 1] as published.
Where the published scripts deviate from the paper, an argument controls it, and its default is what the scripts do.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from gan_core.compose.masks import Box, check_box, check_mask, ramp_along
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.walk import Axis, Branch, Features, Rule, walk

Stretch = Literal["stretch", "reflect", "replicate", "circular"]
POSE_PUBLISHED = (1, 2, 3)
"""Layers taken from the source to keep its pose, as published; the scripts omit the first convolution (0)."""
POSE_ALL = (0, 1, 2, 3)
AFTER_8_PX, AFTER_16_PX = 5, 8
"""Number of layers up to the end of the block of 8 or 16 pixels."""


def interpolate(first: Branch, second: Branch, axis: Axis = "vertical") -> Tensor:
    """Blend two images within a square, from top to bottom (vertical) or from left to right (horizontal).

    Returns ``[B, 3, size, size]``; raises ``CheckpointError`` for generators of different layouts.
    """
    check_layouts(first, second)
    return picture(walk(first, second, Rule(ramp_along(axis))))


def join(first: Branch, second: Branch, axis: Axis = "horizontal", flat_ends: bool = True) -> Tensor:
    """Join two images side by side (or one above the other) in a scene of double length.

    Returns ``[B, 3, size, 2 size]``, or ``[B, 3, 2 size, size]`` vertically. With ``flat_ends`` (published as
    ``merge_extension``) the outer quarters belong to one image each, so that pairs can be chained; otherwise
    (``merge``) the whole length is transition. Raises ``CheckpointError`` for generators of different layouts.
    """
    check_layouts(first, second)
    return picture(walk(first, second, Rule(ramp_along(axis, flat_ends), join=axis)))


def extend(branch: Branch, mode: Stretch = "stretch", axis: Axis = "horizontal") -> Tensor:
    """Extend an image to twice its width (or height) by enlarging its features once, after the block of 8 pixels.

    Returns ``[B, 3, size, 2 size]``, or ``[B, 3, 2 size, size]`` vertically. The published script draws new noise at
    each call; for that, create the branch with ``noise="random"``. The stored noise, extended, gives the same image
    each time. ``reflect``, ``replicate`` and ``circular`` pad the features by half on both sides.
    """

    def change(at: Features) -> Features:
        if at.done != AFTER_8_PX or at.image is None:
            return at
        return Features(_enlarge(at.x, mode, axis), _enlarge(at.image, mode, axis), at.done)

    return picture(walk(branch, rule=Rule(change=change)))


def translate(source: Branch, reference: Branch, alpha: float = 0.7, kept_layers: int = 6) -> Tensor:
    """Mix the layers of two generators: structure from the source's first ``kept_layers``, style from the reference.

    Returns ``[B, 3, size, size]``. It is published for a generator and its fine-tuned copy. ``alpha`` is the weight of
    the reference in the later layers, 0 to 1; the first two layers are always the source's. Raises ``CheckpointError``
    for generators of different layouts, and ``ParamsError`` for arguments out of range.
    """
    check_layouts(source, reference)
    if not 0 <= alpha <= 1:
        raise ParamsError(f"translate: alpha is {alpha:g}: give a number from 0 to 1")
    if not 0 <= kept_layers <= len(source.steps):
        raise ParamsError(f"translate: kept_layers is {kept_layers}: give a number from 0 to {len(source.steps)}")
    kept = max(kept_layers, 2)
    return picture(walk(source, reference, Rule(lambda layer, height, width: alpha if layer >= kept else 0.0)))


def transfer(
    source: Branch,
    reference: Branch,
    mask: Tensor,
    alpha: float = 1.0,
    last_layer: int = 9,
    pose_layers: Sequence[int] = POSE_PUBLISHED,
) -> Tensor:
    """Take the masked region from the reference: attribute transfer, or local translation with a second generator.

    Returns ``[B, 3, size, size]``. ``mask`` is ``[H, W]`` or ``[B, 1, H, W]`` with values 0 to 1 (see ``box_mask``).
    Layers after ``last_layer`` come from the source: a larger value transfers more exactly, but too large a value gives
    artefacts. ``pose_layers`` also come from the source, so that the result keeps its pose: ``POSE_PUBLISHED``,
    ``POSE_ALL`` or ``()``. Raises ``CheckpointError`` for generators of different layouts, ``ParamsError`` for a bad
    mask.
    """
    check_layouts(source, reference)
    soft = alpha * check_mask(mask)

    def share(layer: int, height: int, width: int) -> float | Tensor:
        if layer > last_layer or layer in pose_layers:
            return 0.0
        return F.interpolate(soft, (height, width), mode="bilinear", align_corners=False)

    return picture(walk(source, reference, Rule(share)))


def swap_patches(
    source: Branch,
    reference: Branch,
    into: Sequence[float],
    out_of: Sequence[float],
    back: Literal["reference", "source", "nothing"] = "reference",
) -> Tensor:
    """Copy a rectangle ``out_of`` of the reference's features to ``into`` in the source, after the block of 16 pixels.

    Returns ``[B, 3, size, size]``. As published, both rectangles get the larger width and height of the two. ``back``
    selects what then fills ``out_of`` in the source. The published script uses the reference's features at ``into``,
    though the source's were probably intended. Raises ``CheckpointError`` for generators of different layouts, and
    ``ParamsError`` for boxes outside of the image or too small.
    """
    check_layouts(source, reference)
    at, other = walk(source, until=AFTER_16_PX), walk(reference, until=AFTER_16_PX)
    boxes = _pixels([check_box(into), check_box(out_of)], *at.x.shape[2:])
    x, (here, there) = at.x.clone(), boxes
    x[..., here[0], here[1]] = other.x[..., there[0], there[1]]
    if back != "nothing":
        x[..., there[0], there[1]] = (other if back == "reference" else at).x[..., here[0], here[1]]
    return picture(walk(source, at=Features(x, at.image, at.done)))


def picture(at: Features) -> Tensor:
    """Return the image ``[B, 3, H, W]`` at the end of a walk, clamped to [-1, 1]."""
    assert at.image is not None
    return at.image.clamp(-1, 1).contiguous()


def check_layouts(first: Branch, second: Branch) -> None:
    """Raise ``CheckpointError`` unless both branches have the same layers, so that their features can be blended."""
    one, other = ([step.layer.conv.weight.shape for step in branch.steps] for branch in (first, second))
    if one != other:
        sizes = [f"{len(shapes)} layers, {shapes[0][1]} to {shapes[-1][2]} channels" for shapes in (one, other)]
        raise CheckpointError(
            f"the two generators do not share a layout ({sizes[0]} and {sizes[1]}): "
            "use one generator, or one and its fine-tuned copy"
        )


def _enlarge(x: Tensor, mode: Stretch, axis: Axis) -> Tensor:
    height, width = x.shape[2:]
    wide = axis == "horizontal"
    if mode == "stretch":
        return F.interpolate(x, (height, 2 * width) if wide else (2 * height, width), mode="nearest")
    half = (width if wide else height) // 2
    return F.pad(x, (half, half, 0, 0) if wide else (0, 0, half, half), mode=mode)


def _pixels(boxes: Sequence[Box], height: int, width: int) -> list[tuple[slice, slice]]:
    """Return rows and columns of boxes at their common size; raises ``ParamsError`` if they leave the image."""
    corners = [(math.floor(box.top * height), math.floor(box.left * width)) for box in boxes]
    tall = max(math.floor(box.height * height) for box in boxes)
    wide = max(math.floor(box.width * width) for box in boxes)
    if not (tall and wide):
        raise ParamsError(f"the boxes cover no whole cell of the {width}x{height} features: make them larger")
    if any(top + tall > height or left + wide > width for top, left in corners):
        raise ParamsError("the boxes lie outside the image at their common size: move or shrink them")
    return [(slice(top, top + tall), slice(left, left + wide)) for top, left in corners]
