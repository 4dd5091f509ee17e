"""Published checkpoint layouts behind one protocol: recognise a file, say what it holds, convert it to our own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from gan_core.checkpoints.containers import Contents, open_checkpoint
from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.checkpoints.stored import Refused, stored_tensors
from gan_core.errors import CheckpointError
from gan_core.generators.base import Generator
from gan_core.loading import model_tensors
from gan_core.registry import Registry
from gan_core.storage.urls import hash_file

State = dict[str, Tensor]
UNKNOWN_LICENCE = "not known: see where the file comes from"


@dataclass(frozen=True)
class Part:
    """One network of a file, converted: tensors, and what its card says (``kind``, ``name``, ``arguments``, ...).

    ``of`` tells which network of the file it is; it goes into the card, and with several parts into the file's name.
    An encoder that comes with its generator follows it and is bound to it (``bound``).
    """

    of: str
    tensors: State
    card: dict[str, Any]
    bound: bool = False


class Layout(ABC):
    """One way in which networks are published.

    ``value`` is what the file holds with tensors still in it (``StoredTensor``) and objects as ``Record``.
    ``licence`` is what is known of the terms of the files published in this layout.
    """

    name: ClassVar[str]
    licence: ClassVar[str] = UNKNOWN_LICENCE

    def terms(self, value: Any) -> str:
        """Licence of a recognised file, as far as its content tells."""
        return self.licence

    @abstractmethod
    def recognises(self, value: Any) -> bool:
        """Tell whether a file's content is of this layout, by its keys alone."""

    @abstractmethod
    def facts(self, value: Any, where: str | Path) -> dict[str, Any]:
        """Say what the file holds (``family``, ``size``, ``n_latent``, ``variant``, ...) without loading tensors."""

    @abstractmethod
    def convert(self, value: Any, where: str | Path) -> list[Part]:
        """Load the networks and give them our names; raises ``CheckpointError`` for what is missing or misshapen."""


LAYOUTS: Registry[type[Layout]] = Registry("checkpoint layout", "gan_core.published", Layout)


def find_layout(contents: Contents) -> Layout:
    """Return the layout of a file; raises ``CheckpointError`` naming some of its keys if none is known."""
    for _, layout in LAYOUTS:
        if layout().recognises(contents.value):
            return layout()
    raise CheckpointError(
        f"{contents.path} is a {contents.container} of no known layout (it holds {_summary(contents.value)}): "
        f"known are {', '.join(LAYOUTS.names())}"
    )


def inspect_checkpoint(path: str | Path) -> dict[str, Any]:
    """Say what a file is without loading its tensors: kind of file, layout, facts, licence if known, sha256, size."""
    contents = open_checkpoint(path)
    about: dict[str, Any] = {"file": str(path), "container": contents.container, "sha256": hash_file(contents.path)}
    tensors = stored_tensors(contents.value)
    about |= {"tensors": len(tensors), "megabytes": round(contents.path.stat().st_size / 1e6, 2)}
    if "card" in contents.metadata:
        card = Card.model_validate_json(contents.metadata["card"]).model_dump(exclude_defaults=True)
        return about | {"layout": "edit-dataset", **{key: value for key, value in card.items() if key != "extra"}}
    layout = find_layout(contents)
    return about | {
        "layout": layout.name,
        **layout.facts(contents.value, path),
        "licence": layout.terms(contents.value),
    }


def import_checkpoint(source: str | Path, target: str | Path, licence: str | None = None) -> dict[str, str]:
    """Convert a published file to safetensors with cards, and return the sha256 of each file written.

    One network is written to ``target``; several, next to it, with the network's name before the ending. ``licence``
    goes into the card instead of what is known of the layout. Raises ``CheckpointError``.
    """
    contents = open_checkpoint(source)
    if "card" in contents.metadata:
        raise CheckpointError(f"{source} is one of ours already: copy it")
    layout = find_layout(contents)
    try:
        parts = layout.convert(contents.value, source)
        for part in parts:
            check_finite(part.tensors)
    except Refused as error:
        raise CheckpointError(f"{source} is refused: {error}") from None
    origin: dict[str, Any] = {
        "made_by": f"edit-dataset checkpoints import ({layout.name})",
        "licence": licence or layout.terms(contents.value),
        "source": f"{contents.path.name}, sha256 {hash_file(contents.path)}",
    }
    written: dict[str, str] = {}
    for part in parts:
        path = Path(target) if len(parts) == 1 else Path(target).with_suffix(f".{part.of}.safetensors")
        bound: dict[str, Any] = {"generator_sha256": next(iter(written.values()))} if part.bound and written else {}
        card = Card(**origin, **bound, **part.card)
        written[str(path)] = save_checkpoint(path, part.tensors, card, half=False)
    return written


def check_finite(tensors: State) -> None:
    """Raise ``Refused`` for the first tensor with values that no network works with."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise Refused(f"{key} has NaN or infinite values")


def generator_part(generator: Generator, of: str) -> Part:
    """The part that a generator makes."""
    space = "w" if "w" in generator.spaces else generator.spaces[0]
    card = {"kind": "generator", "name": generator.family, "arguments": generator.arguments, "space": space}
    return Part(of or "generator", model_tensors(generator), card)


def _summary(value: Any) -> str:
    if not isinstance(value, dict):
        return f"a {type(value).__name__}"
    return ", ".join(str(key)[:40] for key in list(value)[:4]) + (", ..." if len(value) > 4 else "") or "nothing"
