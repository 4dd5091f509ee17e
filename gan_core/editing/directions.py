"""Editing directions, and the checkpoint that holds all directions of a generator."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from gan_core.checkpoints.files import Card, Loaded, load_checkpoint, save_checkpoint
from gan_core.device import place
from gan_core.errors import CheckpointError, ParamsError, near_matches
from gan_core.generators.base import Generator


@dataclass(frozen=True)
class Direction:
    """A vector that changes one attribute when it is added to a latent.

    ``vector`` is ``[w_dim]`` or ``[n_latent, w_dim]``, and strength 1 adds it once, which is one ``unit``. ``range`` is
    the lowest and highest strength that was measured. ``layers`` (first, past the last) are the latents that it is
    added to unless an edit says otherwise; ``None`` means all. ``scores`` were measured when it was made.

    ``judge`` says who judged the pictures that it was fitted to, where that is known: the judge's name, its network and
    the hash of its file, its unit and how far strength 1 moves in it, the correlation and R² of the attribute with the
    position along the vector in pictures that were held out, the number of samples and their seed.

    Strengths are relative to the latent, unless ``origin`` is given. They are then positions along the direction,
    ``<latent, vector> / |vector|^2 - origin``, to which latents are moved.
    """

    name: str
    vector: Tensor
    generator_sha256: str
    space: str = "w"
    unit: str = "0.5 of the attribute's range"
    range: tuple[float, float] = (-1.0, 1.0)
    layers: tuple[int, int] | None = None
    method: str = ""
    origin: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    judge: Mapping[str, Any] = field(default_factory=dict)


IMPORTED = "imported from"
"""How the method of a direction begins that comes from a file of others."""
_DESCRIBED = tuple(f.name for f in fields(Direction) if f.name not in ("name", "vector", "generator_sha256"))


def save_directions(
    path: str | Path, directions: Iterable[Direction], made_by: str, extra: Mapping[str, object] = {}
) -> str:
    """Write directions of one generator to a file and return its sha256; ``extra`` is added to the card.

    The licence of directions that were imported is not known, and the card says so.
    Raises ``ValueError`` for directions of several generators.
    """
    found = {direction.name: direction for direction in directions}
    generators = {direction.generator_sha256 for direction in found.values()}
    if len(generators) != 1:
        raise ValueError(f"directions of {len(generators)} generators can't share a file")
    imported = sorted({one.method for one in found.values() if one.method.startswith(IMPORTED)})
    card = Card(
        kind="directions",
        name="linear",
        space="w",
        generator_sha256=generators.pop(),
        made_by=made_by,
        licence="not stated in the files that directions come from: ask their authors" if imported else "Apache-2.0",
        source="; ".join(imported) or "fitted on labelled samples of the generator",
        extra={**extra, "directions": {name: _describe(direction) for name, direction in found.items()}},
    )
    return save_checkpoint(path, {name: d.vector for name, d in found.items()}, card, half=False)


def add_directions(path: str | Path, found: Iterable[Direction], generator: Loaded[Generator], made_by: str) -> str:
    """Write directions of ``generator`` to a file, where others that it has stay; return its sha256.

    Those of the same names are replaced. Raises ``ParamsError`` for a name that can't be part of a column's, and
    ``CheckpointError`` as ``kept_directions`` does.
    """
    found, kept = list(found), kept_directions(path, generator)
    for direction in found:
        if not direction.name.isprintable() or not direction.name.strip() or set(direction.name) & set("/@"):
            raise ParamsError(f"a direction can't be called {direction.name!r}: give it a --name without / and @")
    return save_directions(path, (kept | {direction.name: direction for direction in found}).values(), made_by)


def stored_directions(path: str | Path) -> dict[str, Direction]:
    """Return the directions of a file by name, none if there is no such file."""
    return load_directions(path).model if Path(path).exists() else {}


def kept_directions(path: str | Path, generator: Loaded[Generator]) -> dict[str, Direction]:
    """Return the directions by name of a file that others are to be added to, none if there is no such file.

    Raises ``CheckpointError`` for another kind of file, and for directions of another generator.
    """
    kept = stored_directions(path)
    if other := next((d.name for d in kept.values() if d.generator_sha256 != generator.sha256), ""):
        raise CheckpointError(f"{path} holds {other!r} for another generator than {generator.path}: name another file")
    return kept


def load_directions(path: str | Path, generator: Loaded[Generator] | None = None) -> Loaded[dict[str, Direction]]:
    """Return the directions of a file by name, sorted.

    Raises ``CheckpointError`` for another kind of file, and for directions of another generator than ``generator``.
    """
    stored = load_checkpoint(path)
    card, tensors = stored.card, stored.model
    if card.kind != "directions":
        raise CheckpointError(f"{path} holds a {card.kind}, not directions: name another file in models.directions")
    described: dict[str, Any] = card.extra.get("directions", {})
    if not isinstance(described, dict) or described.keys() != tensors.keys() or card.generator_sha256 is None:
        raise CheckpointError(f"the card of {path} doesn't describe its directions: save it with save_directions")
    if generator is not None:
        stored.check_made_for(generator, "fit them again (`dvc repro fit-directions`) or choose those made for it")
    try:
        found = {n: _restore(n, place(tensors[n]), described[n], card.generator_sha256) for n in sorted(tensors)}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        said = f"the card of {path} doesn't describe its directions ({error})"
        raise CheckpointError(f"{said}: import them again") from None
    return stored.with_model(found)


def find_direction(directions: Mapping[str, Direction], name: str) -> Direction:
    """Return the direction ``name``; raises ``ParamsError`` with near matches if there is none."""
    if name not in directions:
        raise ParamsError(f"edits: unknown direction {name!r}{near_matches(name, directions)}")
    return directions[name]


def describe_direction(direction: Direction) -> str:
    """Return a line with name, space, layers, strengths, method and scores."""
    low, high = direction.range
    layers = "all layers" if direction.layers is None else "layers {} to {}".format(*direction.layers)
    strengths = "strengths" if direction.origin is None else "places"
    scores = ", ".join(f"{name} {value:.3g}" for name, value in direction.scores.items())
    return (
        f"{direction.name:16} {direction.space}, {layers}, {strengths} {low:g} to {high:g} (1 = {direction.unit}); "
        f"{direction.method or 'no method noted'}{'; ' + scores if scores else ''}{_judged(direction.judge)}"
    )


def _judged(judge: Mapping[str, Any]) -> str:
    if not judge:
        return ""
    who = f"{judge.get('network')} ({str(judge.get('sha256'))[:12]})"
    fit = f"correlation {judge.get('correlation')}, R² {judge.get('r2')}"
    return f"; judged by {who}: {fit}, {judge.get('samples')} samples, seed {judge.get('seed')}"


def _describe(direction: Direction) -> dict[str, object]:
    left_out = () if direction.judge else ("judge",)  # files from before have no such key, and keep their bytes
    return {key: getattr(direction, key) for key in _DESCRIBED if key not in left_out}


def _restore(name: str, vector: Tensor, described: Mapping[str, Any], generator_sha256: str) -> Direction:
    values = dict(described)
    low, high = values.pop("range")
    layers = values.pop("layers")
    return Direction(
        name,
        vector,
        generator_sha256,
        **values,
        range=(low, high),
        layers=None if layers is None else (layers[0], layers[1]),
    )
