"""What every kind of edit says and does: the pictures that it plans, and how a batch of rows comes to them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from gan_core import params
from gan_core.checkpoints.files import Loaded
from gan_core.editing.planned import PlannedEdit
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.params import EditSpec, ModelPaths
from gan_core.registry import Registry
from gan_core.rows import Row

LatentsOf = Callable[[Sequence[str]], Tensor]


def no_references(keys: Sequence[str]) -> Tensor:
    """Stand in where the dataset can't be read; raises ``ParamsError``."""
    raise ParamsError(f"edits: references ({', '.join(keys[:3])}) need the source dataset, and none was given")


@dataclass(frozen=True)
class EditSetting:
    """What a kind is built from; ``latents_of`` gives the latents ``[K, n_latent, w_dim]`` of rows by their keys."""

    models: ModelPaths
    generator: Loaded[Generator]
    latents_of: LatentsOf = no_references


class EditKind(ABC):
    """An entry of the edit plan, ready to be applied; derive from ``LatentEdit`` or ``ImageEdit``.

    ``spec`` is its section of ``params.yaml`` with ``kind: Literal[<name>]``. The constructor gets the entry and the
    setting, loads what it needs, and raises ``UserError`` for what can't be done, before any row is read.
    """

    spec: ClassVar[type[EditSpec]]

    @abstractmethod
    def __init__(self, spec: Any, setting: EditSetting) -> None: ...

    @classmethod
    @abstractmethod
    def plan(cls, spec: Any) -> list[PlannedEdit]:
        """The pictures of an entry, in order; needs no file."""

    @abstractmethod
    def describe(self, picture: PlannedEdit) -> dict[str, Any]:
        """What decides a picture beside files and the row: JSON-able, ``layers`` as [first, past the last]."""

    def files(self) -> dict[str, str]:
        """Hashes of the files that it reads, by a name."""
        return {}


class LatentEdit(EditKind):
    """An edit that gives other latents, drawn by the row's own generator; under ``torch.no_grad``."""

    @abstractmethod
    def edit(self, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit) -> Tensor:
        """``w_plus [B, n_latent, w_dim]`` of ``rows`` -> edited, of the same shape; a row's result is its own alone."""


class ImageEdit(EditKind):
    """An edit that draws in its own way; under ``torch.no_grad``."""

    @abstractmethod
    def draw(self, generator: Generator, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit) -> Tensor:
        """``w_plus [B, n_latent, w_dim]`` of ``rows`` -> images ``[B, 3, H, W]`` around [-1, 1].

        ``generator`` is the row's own where rows are tuned (then ``B`` is 1); a row's result is its own alone.
        """


EDIT_KINDS: Registry[type[EditKind]] = params.EDIT_KINDS
