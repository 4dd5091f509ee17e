"""The operations of "StyleGAN of All Trades" (Chong et al. 2021, SOAT): each is the walk with another rule.

A branch (``StyleGAN2.branch``) is a generator in a style; images are ``[B, 3, H, W]``, clamped to [-1, 1] as published.
Where the published scripts do something odd, an argument names it and its default is what they do.
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
"""Layers in which a reference is held to the source's pose, as published: the first convolution (0) was forgotten."""
POSE_ALL = (0, 1, 2, 3)
AFTER_8_PX, AFTER_16_PX = 5, 8
"""Layers done when the block of 8 or 16 pixels has ended."""


def interpolate(first: Branch, second: Branch, axis: Axis = "vertical") -> Tensor:
    """Turn one picture into the other within one square: top to bottom (vertical) or left to right (horizontal)."""
    check_layouts(first, second)
    return picture(walk(first, second, Rule(ramp_along(axis))))


def join(first: Branch, second: Branch, axis: Axis = "horizontal", flat_ends: bool = True) -> Tensor:
    """Set two pictures side by side (or one above the other) in one scene of double length.

    ``flat_ends`` (published as ``merge_extension``) leaves the outer quarters to one picture each, so that pairs can be
    chained; without (``merge``) all of the length is transition.
    """
    check_layouts(first, second)
    return picture(walk(first, second, Rule(ramp_along(axis, flat_ends), join=axis)))


def extend(branch: Branch, mode: Stretch = "stretch", axis: Axis = "horizontal") -> Tensor:
    """Make one picture twice as wide (or high) by enlarging its features once, after the block of 8 pixels.

    Published with fresh noise at every call: make the branch with ``noise="random"`` for that. The stored noise,
    widened, gives the same picture each time. ``reflect``, ``replicate`` and ``circular`` pad by half on both sides.
    """

    def change(at: Features) -> Features:
        if at.done != AFTER_8_PX or at.image is None:
            return at
        return Features(_enlarge(at.x, mode, axis), _enlarge(at.image, mode, axis), at.done)

    return picture(walk(branch, rule=Rule(change=change)))


def translate(source: Branch, reference: Branch, alpha: float = 0.7, kept_layers: int = 6) -> Tensor:
    """Mix the layers of two generators: structure from the source's first ``kept_layers``, style from the reference.

    Published for a generator and its fine-tuned copy. ``alpha`` is how far the later layers are translated, 0 to 1; the
    first two layers are always the source's. Other reference codes give other styles of the same picture.
    """
    check_layouts(source, reference)
    if not 0 <= alpha <= 1 or not 0 <= kept_layers <= len(source.steps):
        raise ParamsError(
            f"alpha {alpha} must be from 0 to 1 and kept_layers {kept_layers} from 0 to {len(source.steps)}"
        )
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
    """Take what a mask covers from the reference: attribute transfer, or local translation by a second generator.

    ``mask`` is ``[H, W]`` or ``[B, 1, H, W]`` in 0 to 1 (``box_mask`` draws boxes). Layers after ``last_layer`` are the
    source's: more of them transfer more exactly, too many give artefacts. ``pose_layers`` are the source's as well, so
    that the reference takes on its pose: ``POSE_PUBLISHED``, ``POSE_ALL`` or ``()``.
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
    """Copy a rectangle of the reference's features (``out_of``) into the source (``into``) after 16 pixels.

    Both rectangles have the larger width and height of the two, as published. ``back`` says what then fills ``out_of``
    in the source: published is the reference's own features at ``into``, where the source's were probably meant.
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
    """Return the image at the end of a walk, clamped to [-1, 1]."""
    assert at.image is not None
    return at.image.clamp(-1, 1).contiguous()


def check_layouts(first: Branch, second: Branch) -> None:
    """Raise ``CheckpointError`` unless both branches have the same layers, so that their features can be mixed."""
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
    """Rows and columns of boxes of one common size; raises ``ParamsError`` if that leaves the image."""
    corners = [(math.floor(box.top * height), math.floor(box.left * width)) for box in boxes]
    tall = max(math.floor(box.height * height) for box in boxes)
    wide = max(math.floor(box.width * width) for box in boxes)
    if not (tall and wide):
        raise ParamsError(f"the boxes cover no whole cell of the {width}x{height} features: make them larger")
    if any(top + tall > height or left + wide > width for top, left in corners):
        raise ParamsError("the boxes lie outside the image at their common size: move or shrink them")
    return [(slice(top, top + tall), slice(left, left + wide)) for top, left in corners]
