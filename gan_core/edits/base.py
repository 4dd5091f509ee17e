"""The base classes of edits: the images that an edit plans, and how it makes them from a batch of rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, Generic, NoReturn, TypeVar

from torch import Tensor

from gan_core import params
from gan_core.checkpoints.files import Loaded
from gan_core.device import fetch
from gan_core.editing.planned import PlannedEdit
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.params import EditSpec, ModelPaths
from gan_core.registry import Registry, place_of
from gan_core.rows import Row

LatentsOf = Callable[[Sequence[str]], Tensor]
"""Returns the latents ``[K, n_latent, w_dim]`` of rows by their keys."""
S = TypeVar("S", bound=EditSpec)


def no_references(keys: Sequence[str]) -> Tensor:
    """Replace ``LatentsOf`` where there is no dataset: always raises ``ParamsError``, and returns no ``[K, ...]``."""
    raise ParamsError(f"references ({', '.join(keys[:3])}) need the source dataset, and none was given")


@dataclass(frozen=True)
class EditSetting:
    """What edits are built from; ``latents_of`` returns the latents ``[K, n_latent, w_dim]`` of rows by their keys."""

    models: ModelPaths
    generator: Loaded[Generator]
    latents_of: LatentsOf = no_references


class EditKind(ABC, Generic[S]):
    """An entry of the edit plan, ready to be applied; derive from ``LatentEdit`` or ``ImageEdit``.

    ``spec`` is the class of its entry in ``params.yaml``, with ``kind: Literal[<name>]``. The constructor gets the
    entry and the setting, loads what it needs, and raises ``UserError`` for an impossible edit before rows are read.
    """

    spec: ClassVar[type[EditSpec]]

    @abstractmethod
    def __init__(self, spec: S, setting: EditSetting) -> None: ...

    @classmethod
    @abstractmethod
    def plan(cls, spec: S) -> list[PlannedEdit[S]]:
        """Return the images of an entry, in order, without reading files."""

    @abstractmethod
    def describe(self, picture: PlannedEdit[S]) -> dict[str, object]:
        """Return what determines an image besides files and the row, JSON-able; ``layers``: [first, past the last]."""

    def files(self) -> dict[str, str]:
        """Return the hashes of the files that it reads, by name."""
        return {}


class LatentEdit(EditKind[S]):
    """An edit that changes latents, which the row's generator then draws. It runs under ``torch.no_grad``."""

    @abstractmethod
    def edit(self, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit[S]) -> Tensor:
        """Return edited latents for ``w_plus [B, n_latent, w_dim]`` of ``rows``, of the same shape.

        The result of a row must not depend on the other rows.
        """


class ImageEdit(EditKind[S]):
    """An edit that draws images itself. It runs under ``torch.no_grad``.

    ``of_one`` says that it draws the row alone, at the generator's size.
    """

    of_one: ClassVar[bool] = True

    @abstractmethod
    def draw(self, generator: Generator, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit[S]) -> Tensor:
        """Draw images ``[B, 3, H, W]`` around [-1, 1] for ``w_plus [B, n_latent, w_dim]`` of ``rows``.

        If rows are tuned, ``generator`` is the row's own and ``B`` is 1. The result of a row must not depend on the
        other rows.
        """


def edit_latents(kind: LatentEdit, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit) -> Tensor:
    """Edit ``w_plus [B, n_latent, w_dim]`` by ``kind``; raises ``ParamsError`` if it gives another shape."""
    edited = kind.edit(w_plus, rows, picture)
    return edited if edited.shape == w_plus.shape else _refuse(kind, picture, edited, str(list(w_plus.shape)))


def draw_images(
    kind: ImageEdit, generator: Generator, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit
) -> Tensor:
    """Draw ``[B, 3, H, W]`` by ``kind``; raises ``ParamsError`` if it gives another shape."""
    drawn = kind.draw(generator, w_plus, rows, picture)
    fits = drawn.ndim == 4 and drawn.shape[:2] == (len(rows), 3)
    return drawn if fits else _refuse(kind, picture, drawn, f"[{len(rows)}, 3, H, W]")


def _refuse(kind: EditKind, picture: PlannedEdit, made: Tensor, wanted: str) -> NoReturn:
    raise ParamsError(
        f"edits: {picture.column} ({place_of(type(kind))}) gives {list(made.shape)}, and {wanted} is needed: correct "
        "the class, or leave the edit out"
    )


def hash_latents(latents: Iterable[Tensor]) -> list[str]:
    """Return the sha256 of each latent ``[n_latent, w_dim]``."""
    return [sha256(fetch(latent).tobytes()).hexdigest() for latent in latents]


EDIT_KINDS: Registry[type[EditKind]] = params.EDIT_KINDS
