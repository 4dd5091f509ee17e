"""Transfer parts of a second source, or of the second generator, to the first source."""

import copy
from collections.abc import Sequence
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from gan_core.checkpoints.files import Loaded
from gan_core.compose.base import OPERATIONS, Drawing, Operation, branch, find_landmarks, load_second
from gan_core.compose.masks import Box, box_mask, check_box, named_box, read_mask
from gan_core.compose.operations import POSE_ALL, POSE_PUBLISHED, picture, swap_patches, transfer
from gan_core.errors import ParamsError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import walk
from gan_core.judges.networks import load_network
from gan_core.params import CompositionSpec, ModelPaths
from gan_core.sections import Unit
from gan_core.storage.urls import hash_file

POSES: dict[str, tuple[int, ...]] = {"published": POSE_PUBLISHED, "all": POSE_ALL, "none": ()}
INSIDE, OUTSIDE = 0.5, 0.02
"""Values of a soft mask above which a pixel counts as covered, and below which as not covered."""


class TransferSpec(CompositionSpec):
    """A part of the second source in the first; give one of `boxes`, `column` and `mask`."""

    operation: Literal["transfer"] = "transfer"
    boxes: list[str | list[float]] = Field([])
    """Parts: eyes, nose, mouth, hair, face, or `[left, top, width, height]` in shares of the picture."""
    column: str = ""
    """A column of the dataset that has such boxes for each row."""
    mask: str = ""
    """A picture file of any size that is white where the second source is used."""
    pose: Literal["published", "all", "none"] = "all"
    """Which first layers are the first source's; `published` omits one, which lets some of the other pose through."""
    last_layer: Annotated[int, Field(ge=0)] = 9
    """The last layer that is transferred."""
    alpha: Unit = 1.0
    """The share of the second source within the part."""
    translated: bool = False
    """The part comes from the second generator; a single source gives the style of both."""


@OPERATIONS.register("transfer")
class Transfer(Operation[TransferSpec]):
    """Takes the region in the boxes from the second source; the pose and the rest are those of the first source."""

    spec = TransferSpec
    fewest = 1
    scores = ("outside_change",)

    def __init__(self, spec: TransferSpec, models: ModelPaths, generator: Loaded[StyleGAN2]) -> None:
        self.chosen = spec
        self.second = load_second(models.second_generator, generator) if spec.translated else None
        if sum(map(bool, (spec.boxes, spec.column, spec.mask))) != 1:
            raise ParamsError("takes boxes, or a column that has them, or a mask: give one of them")
        self.mask = read_mask(spec.mask) if spec.mask else None
        named = any(isinstance(box, str) for box in spec.boxes)
        self.landmarks = load_network(models.landmarks, "landmarks") if named else None
        for box in spec.boxes:
            named_box(box) if isinstance(box, str) else check_box(box)

    def draw(self, generator: StyleGAN2, w_plus: Tensor) -> Drawing:
        second = self.second.model if self.second else generator
        source, reference = branch(generator, w_plus[0]), branch(second, w_plus[-1])
        before, chosen = picture(walk(source)), self.chosen
        mask = box_mask(self._boxes(before)) if self.mask is None else self.mask
        after = transfer(source, reference, mask, chosen.alpha, chosen.last_layer, POSES[chosen.pose])
        return Drawing(after, {"outside_change": outside_change(before, after, mask)})

    def with_boxes(self, boxes: Sequence[Sequence[float]] | None) -> Operation[TransferSpec]:
        if boxes is None:
            return self
        placed = copy.copy(self)
        placed.chosen = self.chosen.model_copy(update={"boxes": [list(box) for box in boxes]})
        return placed

    def files(self) -> dict[str, str]:
        files = {"second_generator": self.second.sha256} if self.second else {}
        files |= {self.chosen.mask: hash_file(self.chosen.mask)} if self.chosen.mask else {}
        return files | ({"landmarks": self.landmarks.sha256} if self.landmarks else {})

    def _boxes(self, image: Tensor) -> list[Sequence[float]]:
        if self.landmarks is None:
            return [box for box in self.chosen.boxes if not isinstance(box, str)]
        points = find_landmarks(self.landmarks.model, image)
        return [named_box(box, points) if isinstance(box, str) else box for box in self.chosen.boxes]


def outside_change(before: Tensor, after: Tensor, mask: Tensor) -> float:
    """Return the mean change of pixels outside of a mask, divided by the mean change inside.

    ``before`` and ``after`` are ``[1, 3, H, W]``, and ``mask [1, 1, h, w]`` has values 0 to 1. Outside are pixels below
    2 % after a dilation by 2 pixels, inside those above one half. Without pixels outside the result is 0. Raises
    ``ParamsError`` without pixels inside.
    """
    change = (after - before).abs().mean(1, keepdim=True)
    soft = F.interpolate(mask, change.shape[2:], mode="bilinear", align_corners=False)
    outside, inside = F.max_pool2d(soft, 5, stride=1, padding=2) < OUTSIDE, soft > INSIDE
    if not inside.any():
        raise ParamsError("the part is smaller than a pixel of the picture: make it larger")
    return float(change[outside].mean() / change[inside].mean().clamp_min(1e-6)) if outside.any() else 0.0


class SwapSpec(CompositionSpec):
    """A rectangle of the second source's features in the first; see ``swap_patches``."""

    operation: Literal["swap"] = "swap"
    into: list[float]
    """Where it goes: `[left, top, width, height]` in shares of the picture."""
    out_of: list[float]
    """Where it is taken from, in the same way."""
    back: Literal["reference", "source", "nothing"] = "reference"
    """Whose features at `into` fill `out_of` in the first source; published is the second source's (`reference`)."""


@OPERATIONS.register("swap")
class Swap(Operation[SwapSpec]):
    """Copies a rectangle of the second source's features into the first source, after the block of 16 pixels."""

    spec = SwapSpec

    def __init__(self, spec: SwapSpec, models: ModelPaths, generator: Loaded[StyleGAN2]) -> None:
        self.chosen = spec
        self.boxes: tuple[Box, Box] = (check_box(spec.into), check_box(spec.out_of))

    def draw(self, generator: StyleGAN2, w_plus: Tensor) -> Drawing:
        source, reference = branch(generator, w_plus[0]), branch(generator, w_plus[1])
        return Drawing(swap_patches(source, reference, *self.boxes, back=self.chosen.back))
