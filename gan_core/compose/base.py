"""The base class of the operations in a composition plan, and what they share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from gan_core import params
from gan_core.align.landmarks import LETTERBOX_SIZE
from gan_core.checkpoints.files import Loaded
from gan_core.errors import CheckpointError, ParamsError, UserError
from gan_core.generators.base import Generator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import Branch
from gan_core.loading import load_generator
from gan_core.meaning import Meaning
from gan_core.params import CompositionSpec, ModelPaths
from gan_core.registry import Registry

SCORES: dict[str, Meaning] = {
    "seam": Meaning(
        "Seam",
        better="lower",
        digits=2,
        sentence="Mean step across the joins, as a multiple of the mean step elsewhere; a join shows above 1.",
    ),
    "outside_change": Meaning(
        "Change outside",
        better="lower",
        digits=3,
        sentence="Mean change outside of the boxes, as a share of the change inside.",
    ),
}
"""Columns that an operation may score its pictures in, with what they mean."""
S = TypeVar("S", bound=CompositionSpec)


@dataclass(frozen=True)
class Drawing:
    """An ``image [1, 3, H, W]`` in [-1, 1], and its scores by columns of ``SCORES``.

    ``one_scene`` is false for variants side by side, which metrics must not compare with the sources as a set.
    """

    image: Tensor
    scores: Mapping[str, float] = field(default_factory=dict)
    one_scene: bool = True


class Operation(ABC, Generic[S]):
    """An entry of ``compose.plan``, ready to be applied.

    ``spec`` is the class of its entry, with ``operation: Literal[<name>]``. It takes ``fewest`` to ``most`` sources
    (``None``: any number). ``scores`` are those of ``SCORES`` that its pictures have. The constructor loads what it
    needs and raises ``UserError`` for an impossible operation.
    """

    spec: ClassVar[type[CompositionSpec]]
    fewest: ClassVar[int] = 2
    most: ClassVar[int | None] = 2
    scores: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __init__(self, spec: S, models: ModelPaths, generator: Loaded[StyleGAN2]) -> None: ...

    @abstractmethod
    def draw(self, generator: StyleGAN2, w_plus: Tensor) -> Drawing:
        """Compose the sources ``w_plus [n, n_latent, w_dim]``, in order; raises ``UserError`` if that is impossible."""

    def with_boxes(self, boxes: Sequence[Sequence[float]] | None) -> "Operation[S]":
        """Return this operation with the boxes of a row; most operations ignore them."""
        return self

    def files(self) -> dict[str, str]:
        """Return the hashes of the files that it reads besides the generator, by name."""
        return {}


OPERATIONS: Registry[type[Operation]] = params.OPERATIONS


def entry_name(spec: CompositionSpec) -> str:
    """Return the name of an entry: its ``name``, or its operation."""
    return spec.name or spec.operation


def open_operation(spec: CompositionSpec, models: ModelPaths, generator: Loaded[StyleGAN2]) -> Operation:
    """Return an entry ready to be applied; raises ``UserError`` that names it for one that is impossible."""
    try:
        return OPERATIONS.get(spec.operation)(spec, models, generator)
    except UserError as error:
        raise type(error)(f"compose: {entry_name(spec)}: {error}") from None


def branch(generator: StyleGAN2, w_plus: Tensor) -> Branch:
    """Return a generator with the styles of a code ``w_plus [n_latent, w_dim]``."""
    return generator.branch(generator.styles(w_plus[None]))


def check_composer(generator: Loaded[Generator]) -> Loaded[StyleGAN2]:
    """Return a generator that has styles; raises ``CheckpointError`` for another family."""
    model = generator.model
    if not isinstance(model, StyleGAN2):
        raise CheckpointError(f"{generator.path} is a {model.family} generator: compositions need a stylegan2")
    return generator.with_model(model)


def load_second(path: str, first: Loaded[StyleGAN2]) -> Loaded[StyleGAN2]:
    """Load a second generator; raises ``CheckpointError`` unless it was fine-tuned from the first."""
    second = load_generator(path)
    cards = first.card, second.card
    layouts = [{name: card.arguments.get(name) for name in ("size", "style_dim", "channels")} for card in cards]
    if layouts[0] != layouts[1]:
        raise CheckpointError(
            f"{first.path} and {path} do not share a layout ({layouts[0]} and {layouts[1]}): "
            "name a generator and its fine-tuned copy"
        )
    second.check_made_for(first, "train it again (`dvc repro train-cel`) or choose that fine-tuned from it")
    return check_composer(second)


def find_landmarks(network: nn.Module, image: Tensor) -> Tensor:
    """Return the five landmarks ``[5, 2]`` of an image ``[1, 3, S, S]`` in [-1, 1], in shares of its sides.

    Raises ``ParamsError`` if the landmark network finds no face.
    """
    presence, points = network(F.interpolate(image, (LETTERBOX_SIZE, LETTERBOX_SIZE), mode="area"))
    if presence.item() < 0:
        raise ParamsError("boxes by name need a face, and the landmark network finds none: give boxes as numbers")
    return points[0]


def check_number(operation: type[Operation], name: str, n: int) -> None:
    """Raise ``ParamsError`` unless the operation takes ``n`` sources."""
    if n < operation.fewest or (operation.most is not None and n > operation.most):
        most = "or more" if operation.most is None else f"to {operation.most}"
        takes = str(operation.fewest) if operation.fewest == operation.most else f"{operation.fewest} {most}"
        raise ParamsError(f"compose: {name} takes {takes} sources, not {n}: change its sources or group")
