"""The common interface of published checkpoint layouts: recognise a file, describe it, convert it to our layout."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gan_core.checkpoints.containers import Contents, open_checkpoint
from gan_core.checkpoints.files import Card, find_card, save_checkpoint
from gan_core.checkpoints.stored import Refused, StateDict, stored_tensors
from gan_core.checkpoints.subjects import SUBJECT
from gan_core.errors import CheckpointError
from gan_core.generators.base import Generator
from gan_core.loading import model_tensors
from gan_core.published.pins import check_pin
from gan_core.registry import Registry

SUFFIX = ".safetensors"
UNKNOWN_LICENCE = "not known: see where the file comes from"
FACES = ("face", "faces")


@dataclass(frozen=True)
class Part:
    """A converted network of a file: its tensors, and the fields of its card (``kind``, ``name``, ``arguments``, ...).

    ``of`` is the network's name in the file; if there are several parts, it becomes part of the target's name. A
    ``bound`` part is an encoder whose generator is the part before it.
    """

    of: str
    tensors: StateDict
    card: dict[str, object]
    bound: bool = False


class Layout(ABC):
    """A file layout in which networks are published.

    ``value`` is the content of a file, with tensors as ``StoredTensor`` and objects as ``Record``. ``licence`` is what
    is known of the terms of files in this layout. Where the keys of a file don't tell which of several ``variants`` it
    holds, ``variant`` says it. ``subject`` is what its pictures show, if it was told and they aren't faces.
    """

    name: ClassVar[str]
    licence: ClassVar[str] = UNKNOWN_LICENCE
    variants: ClassVar[Sequence[str]] = ()

    def __init__(self, variant: str | None = None, subject: str | None = None) -> None:
        self.variant, self.subject = variant, None if subject in FACES else subject

    def terms(self, value: object) -> str:
        """Return the licence of a recognised file, as far as its content tells."""
        return self.licence

    def shows(self, value: object) -> str | None:
        """Return what the pictures of a recognised file show, if that is known and they aren't faces."""
        return self.subject

    @abstractmethod
    def recognises(self, value: object) -> bool:
        """Return whether a file has this layout, by its keys alone."""

    @abstractmethod
    def facts(self, value: object, where: str | Path) -> dict[str, object]:
        """Describe the file (``family``, ``size``, ``n_latent``, ``variant``, ...) without loading tensors.

        Raises ``CheckpointError`` if tensors are missing.
        """

    def check(self, value: object, where: str | Path) -> None:
        """Raise ``CheckpointError`` where ``convert`` would; those of this project read no weights for it."""
        self.convert(value, where)

    @abstractmethod
    def convert(self, value: object, where: str | Path) -> list[Part]:
        """Load the networks and rename their tensors; raises ``CheckpointError`` for missing or misshapen tensors."""


LAYOUTS: Registry[type[Layout]] = Registry("checkpoint layout", "gan_core.published", Layout)


def find_layout(contents: Contents, variant: str | None = None, subject: str | None = None) -> Layout:
    """Return the layout of a file, whose network is the ``variant``, and whose pictures show the ``subject``, if told.

    Raises ``CheckpointError`` naming some of its keys if no layout fits, or if this layout has no such variant.
    """
    for _, kind in LAYOUTS:
        if (layout := kind(variant, subject)).recognises(contents.value):
            if variant is not None and variant not in layout.variants:
                known = f"one of {', '.join(layout.variants)}" if layout.variants else "left out"
                raise CheckpointError(f"{contents.path} is of the layout {layout.name}, so the variant must be {known}")
            return layout
    raise CheckpointError(
        f"{contents.path} is a {contents.container} of no known layout (it holds {_summary(contents.value)}): "
        f"known are {', '.join(LAYOUTS.names())}"
    )


def inspect_checkpoint(path: str | Path, variant: str | None = None) -> dict[str, object]:
    """Describe a file without loading its weights: kind of file, layout, facts, licence if known, sha256 and size.

    ``import`` is ``"yes"``, or why an import would be refused; only NaN and infinite values are not looked for. Raises
    ``CheckpointError`` for a file that can't be read or has no known layout.
    """
    contents = open_checkpoint(path)
    about: dict[str, object] = {"file": str(path), "container": contents.container, "sha256": contents.sha256}
    tensors = stored_tensors(contents.value)
    about |= {"tensors": len(tensors), "megabytes": round(contents.path.stat().st_size / 1e6, 2)}
    if card := contents.card:
        return about | {"layout": "edit-dataset", **card.model_dump(exclude_defaults=True, exclude={"extra"})}
    layout = find_layout(contents, variant)
    with _told(path), _whole(layout, path):
        facts = layout.facts(contents.value, path)
    return about | {
        "layout": layout.name,
        **facts,
        "licence": layout.terms(contents.value),
        "import": _verdict(layout, contents),
    }


def import_checkpoint(
    source: str | Path,
    target: str | Path,
    licence: str | None = None,
    variant: str | None = None,
    subject: str | None = None,
) -> dict[str, str]:
    """Convert a published file to safetensors with cards, and return the sha256 of each file that was written.

    A single network is written to ``target``. Several networks are written beside it, with the network's name before
    the suffix. ``licence`` replaces the licence that is known of the layout, ``variant`` says which network it is where
    the file doesn't, and ``subject`` what its pictures show if not faces. Raises ``CheckpointError`` for a file that
    can't be read, has no known layout, lacks tensors, must be told the variant, or isn't the one of first use, and if
    another file is where one would be written.
    """
    contents = open_checkpoint(source)
    if contents.card:
        raise CheckpointError(f"{source} is already in the layout of this project: copy it")
    origin, parts = convert_contents(contents, licence, variant, subject)
    stem = str(target).removesuffix(SUFFIX)
    paths = [Path(target) if len(parts) == 1 else Path(f"{stem}.{part.of}{SUFFIX}") for part in parts]
    for path in paths:
        check_target(path, source, str(origin["source"]))
    written: dict[str, str] = {}
    for path, part in zip(paths, parts, strict=True):
        bound = {"generator_sha256": next(iter(written.values()))} if part.bound and written else {}
        card = Card.model_validate(origin | bound | part.card)
        written[str(path)] = save_checkpoint(path, part.tensors, card, half=False)
    return written


def check_target(target: str | Path, source: str | Path, made_from: str) -> None:
    """Raise ``CheckpointError`` if a file is at ``target`` already, unless its card says ``made_from``.

    ``source`` is the file that is imported, which is never the target.
    """
    path = Path(target)
    if not path.exists():
        return
    if path.samefile(source):
        raise CheckpointError(f"{target} is the file that is imported: name another one to write")
    card = find_card(path)
    if card is None or card.source != made_from:
        what = f"a {card.kind} from {card.source}" if card else "which no import wrote"
        raise CheckpointError(f"{target} is there already, {what}: name another target, or move it away")


def convert_contents(
    contents: Contents, licence: str | None = None, variant: str | None = None, subject: str | None = None
) -> tuple[dict[str, object], list[Part]]:
    """Return the networks of a published file, and the fields that all their cards share.

    Raises ``CheckpointError`` as ``import_checkpoint`` does.
    """
    check_pin(contents.path, contents.sha256)
    layout = find_layout(contents, variant, subject)
    with _told(contents.path), _whole(layout, contents.path):
        layout.check(contents.value, contents.path)  # builds nothing: names and shapes come before memory
        parts = layout.convert(contents.value, contents.path)
        for part in parts:
            check_finite(part.tensors)
    origin: dict[str, object] = {
        "made_by": f"edit-dataset checkpoints import ({layout.name})",
        "licence": licence or layout.terms(contents.value),
        "source": f"{contents.path.name}, sha256 {contents.sha256}",
    }
    if shown := layout.shows(contents.value):
        origin["extra"] = {SUBJECT: shown}
    return origin, parts


def check_finite(tensors: StateDict) -> None:
    """Raise ``Refused`` for the first tensor with NaN or infinite values."""
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise Refused(f"{key} has NaN or infinite values")


def generator_part(generator: Generator, of: str) -> Part:
    """Return the part of a generator; ``of`` is its name in the file."""
    space = "w" if "w" in generator.spaces else generator.spaces[0]
    card: dict[str, object] = {"kind": "generator", "name": generator.family, "space": space}
    return Part(of or "generator", model_tensors(generator), card | {"arguments": generator.arguments})


@contextmanager
def _whole(layout: Layout, path: str | Path) -> Iterator[None]:
    """Raise ``CheckpointError`` for what a layout stumbles over in a file, such as a tensor without dimensions."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        said = f"{path} is not a whole file of the layout {layout.name} ({type(error).__name__}: {error})"
        raise CheckpointError(f"{said}: download it again") from error


@contextmanager
def _told(path: str | Path) -> Iterator[None]:
    """Raise ``CheckpointError`` for what is refused."""
    try:
        yield
    except Refused as error:
        raise CheckpointError(f"{path} is refused: {error}") from None


def _verdict(layout: Layout, contents: Contents) -> str:
    try:
        check_pin(contents.path, contents.sha256)
        with _whole(layout, contents.path):
            layout.check(contents.value, contents.path)
    except (CheckpointError, Refused) as error:
        return f"refused: {error}"
    return "yes"


def _summary(value: object) -> str:
    """Name some of the keys of a file, and those of the first dictionary in it."""
    if not isinstance(value, dict):
        return f"a {type(value).__name__}"
    keys = ", ".join(str(key)[:40] for key in list(value)[:4]) + (", ..." if len(value) > 4 else "") or "nothing"
    inner = next(((key, part) for key, part in value.items() if isinstance(part, dict) and part), None)
    if inner is None:
        return keys
    return f"{keys}; {str(inner[0])[:40]} begins with {', '.join(str(key)[:40] for key in list(inner[1])[:2])}"
