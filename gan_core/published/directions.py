"""Import published directions: the files of InterFaceGAN, e4e and PTI, GANSpace and closed-form factorisation.

Nothing is unpickled. The caller states what a file doesn't: the generator, the space and the meaning of strengths.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from gan_core.checkpoints.arrays import Arrays, named_arrays, read_arrays
from gan_core.checkpoints.containers import open_checkpoint
from gan_core.editing.apply import check_layers
from gan_core.editing.directions import (
    IMPORTED,
    Direction,
    add_directions,
    find_direction,
    kept_directions,
    load_directions,
)
from gan_core.editing.stylespace import check_styles, read_style_vector, text_direction
from gan_core.errors import CheckpointError, ParamsError, near_matches
from gan_core.generators.base import Generator
from gan_core.loading import load_generator

FACTORISED = frozenset({"comp", "lat_comp", "eigvec"})
"""Keys by which the files of GANSpace and of closed-form factorisation are known."""
SHOWN, SEARCHED = 8, 1000
"""How many names of entries a message lists, and how many are searched for one that is like a misspelt one."""
BOUNDARY = re.compile(r"^(?:[a-z0-9]+_[a-z0-9]+_)?(?P<name>.+?)(?:_w)?_boundary$")


@dataclass(frozen=True)
class Source:
    """What a file of directions doesn't say.

    ``generator_sha256`` is the hash of the generator that it was made for, and ``space`` the space of its vectors.
    ``absolute`` strengths are target positions along the direction; relative strengths are added. ``component`` chooses
    from the components of a factorisation, and ``entry`` from several directions in a file: the key of a dictionary, or
    the number of a list's element or an array's row. ``layers`` (first, past the last) are the latents that the
    direction changes. ``name`` replaces the name of the file or the entry. In StyleSpace (``s``) a file of StyleCLIP's
    channel relevances needs a ``text``, a file with the difference of two text embeddings; channels less relevant than
    ``beta`` are not changed.
    """

    generator_sha256: str
    space: str = "w"
    absolute: bool = False
    component: int | None = None
    layers: tuple[int, int] | None = None
    name: str | None = None
    text: str | None = None
    beta: float = 0.15
    entry: str | None = None


def read_direction(path: str | Path, source: Source) -> Direction:
    """Read one direction from a published file.

    An array is a vector ``[d]``, ``[1, d]``, ``[L, d]`` or ``[1, L, d]``, added unchanged; a dictionary or a list may
    hold several. ``.npz`` of GANSpace and the dictionary ``mean``, ``comp``, ``std`` of e4e: a component times its
    standard deviation, so strengths are sigmas. A dictionary with ``eigvec``: a column. Raises ``CheckpointError`` for
    other content and ``ParamsError`` for a component or an entry that the file doesn't have.
    """
    path = Path(path)
    content = read_arrays(path)
    factorised = isinstance(content, dict) and not FACTORISED.isdisjoint(content)
    if factorised:
        vector, mean = _component(content, source, path)  # type: ignore[arg-type]
    else:
        vector, mean = _vector(_entry(content, source, path), path), None
    if not vector.isfinite().all() or vector.norm() == 0:
        raise CheckpointError(f"{path} has a direction of zeros or with NaN: it is damaged")
    origin = _origin(vector, mean) if source.absolute else None
    if origin is not None and not math.isfinite(origin):
        raise CheckpointError(f"{path} has a mean with NaN or too large numbers: it is damaged, or not --absolute")
    if source.component is not None and not factorised:
        raise ParamsError(
            f"{path} has no components: leave the component out (an entry chooses from several directions)"
        )
    if source.entry is not None and factorised:
        raise ParamsError(f"{path} has components: choose one by its number as the component, not as an entry")
    return Direction(
        _name(path, source),
        vector,
        source.generator_sha256,
        space="w_plus" if vector.dim() == 2 else source.space,
        unit="one sigma" if mean is not None else "the length in the file",
        layers=source.layers,
        method=f"{IMPORTED} {path.name}",
        origin=origin,
    )


def _component(content: Mapping[str, object], source: Source, path: Path) -> tuple[Tensor, Tensor | None]:
    """Return a component in sigmas with the mean of its space, or a column of a factorisation, which has no mean."""
    tensors = {name: value.float() for name, value in content.items() if isinstance(value, Tensor)}
    if "eigvec" in tensors:
        columns = tensors["eigvec"]
        if columns.dim() != 2 or columns.numel() == 0:
            raise CheckpointError(f"{path}: eigvec is {list(columns.shape)}, not a matrix whose columns are directions")
        return columns[:, _index(source, columns.shape[1], path)], None
    names = ("comp", "std", "mean") if "comp" in tensors else ("lat_comp", "lat_stdev", "lat_mean")
    if missing := [name for name in names if name not in tensors]:
        raise CheckpointError(f"{path} has no {', '.join(missing)}: it is neither GANSpace nor a factorisation")
    components, spread, mean = (tensors[name] for name in names)
    whole = components.dim() > 0 and components.numel() > 0
    if not whole or (len(components), components[0].numel()) != (spread.numel(), mean.numel()):
        shapes = ", ".join(f"{name} {list(tensors[name].shape)}" for name in names)
        raise CheckpointError(f"{path} has {shapes}: each component needs one deviation, and the mean their length")
    index = _index(source, len(components), path)
    return components[index].flatten() * spread.flatten()[index], mean.flatten()


def _index(source: Source, count: int, path: Path) -> int:
    if source.component is None or not 0 <= source.component < count:
        raise ParamsError(f"{path} has {count} components: choose one from 0 to {count - 1} (not {source.component})")
    return source.component


def _entry(content: Arrays, source: Source, path: Path) -> Tensor:
    """Return the one direction of a file, or that which ``source.entry`` chooses from several."""
    if isinstance(content, Tensor) and source.entry is None:
        return content
    parts = list(content) if isinstance(content, Tensor) and content.dim() > 1 else content
    found = {name: tensor for name, tensor in named_arrays(parts) if tensor.numel() > 1}  # less are biases
    if (chosen := source.entry) is not None:
        if not any(_belongs(name, chosen) for name in found):
            near = near_matches(chosen, [name[:40] for name in list(found)[:SEARCHED]])
            raise ParamsError(f"{path} has no entry {chosen!r}{near}")
        exact = {chosen: found[chosen]} if chosen in found else {}
        found = exact or {name: tensor for name, tensor in found.items() if _belongs(name, chosen)}
    if len(found) != 1:
        raise CheckpointError(
            f"{path} holds several tensors, not one direction: choose an entry with --entry ({_listed(found)})"
        )
    return next(iter(found.values()))


def _belongs(name: str, chosen: str) -> bool:
    return name == chosen or name.startswith(f"{chosen}.")


def _listed(names: Collection[str]) -> str:
    return ", ".join(name[:40] for name in list(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "") or "none"


def _vector(content: Tensor, path: Path) -> Tensor:
    vector = content.detach().float().squeeze()
    if vector.dim() not in (1, 2):
        raise CheckpointError(
            f"{path} is {list(content.shape)}, not a direction [d], [1, d], [layers, d] or [1, layers, d]"
        )
    return vector


def _origin(vector: Tensor, mean: Tensor | None) -> float:
    along = vector if vector.dim() == 1 else vector[0]
    return 0.0 if mean is None else float(mean @ along / along.square().sum())


def _name(path: Path, source: Source) -> str:
    if source.name is not None:
        return source.name
    number = source.component if source.component is not None else source.entry
    if number is not None and str(number).isdigit():
        return f"{path.stem}-{number}"
    stem = path.stem if source.entry is None else source.entry
    found = BOUNDARY.match(stem)
    return found["name"] if found else stem


def import_direction(
    source: str | Path, target: str | Path, generator_path: str | Path, facts: Source, any_generator: bool = False
) -> Direction:
    """Add the direction of a file to the directions file ``target`` of a generator, and return the direction.

    The hash in ``facts`` is replaced. Raises ``UserError`` for files that can't be read, for a vector that doesn't fit
    the generator's latents, for a space that the generator doesn't have, for another direction of the same name in
    ``target`` (unless ``facts`` names it), and, unless ``any_generator``, for a file of this project that was made for
    another generator.
    """
    loaded = load_generator(generator_path)
    generator, sha256 = loaded.model, loaded.sha256
    facts = replace(facts, generator_sha256=sha256)
    if _is_ours(source):
        direction = _ours(source, facts, any_generator)
    elif facts.space == "s":
        direction = _styles(Path(source), facts, generator)
    else:
        direction = read_direction(source, facts)
    _check_fit(direction, generator)
    kept = kept_directions(target, loaded)
    if (old := replaced(kept, direction)) and facts.name is None:
        raise ParamsError(
            f"{target} has another direction {old.name!r} already ({old.method or 'no method noted'}): choose another "
            f"--name, or say --name {old.name} to replace it"
        )
    add_directions(target, [direction], loaded, "edit-dataset directions import")
    return direction


def _without_vector(direction: Direction) -> dict[str, object]:
    return {field.name: getattr(direction, field.name) for field in fields(direction) if field.name != "vector"}


def replaced(kept: Mapping[str, Direction], direction: Direction) -> Direction | None:
    """Return the direction of ``kept`` that has the same name as ``direction`` and isn't the same."""
    old = kept.get(direction.name)
    if old is None or (
        torch.equal(old.vector, direction.vector) and _without_vector(old) == _without_vector(direction)
    ):
        return None
    return old


def _is_ours(source: str | Path) -> bool:
    """Tell whether a file is one of this project, which has a card; safetensors of others have none."""
    name = str(source)
    return name.endswith(".safetensors") and ("://" in name or open_checkpoint(source).card is not None)


def _ours(source: str | Path, facts: Source, any_generator: bool) -> Direction:
    directions = load_directions(source).model
    chosen = facts.entry or facts.name or (next(iter(directions)) if len(directions) == 1 else None)
    if chosen is None:
        raise ParamsError(f"{source} has several directions: choose one with --entry ({_listed(directions)})")
    found = find_direction(directions, chosen)
    if found.generator_sha256 != facts.generator_sha256 and not any_generator:
        raise CheckpointError(
            f"{source} was made for the generator {found.generator_sha256[:12]}, not for this one "
            f"({facts.generator_sha256[:12]}): use --any-generator to import it anyway"
        )
    return replace(
        found, name=found.name if facts.name is None else facts.name, generator_sha256=facts.generator_sha256
    )


def _styles(path: Path, facts: Source, generator: Generator) -> Direction:
    if facts.absolute or facts.layers is not None or facts.component is not None or facts.entry is not None:
        raise ParamsError(f"{path}: a direction in StyleSpace moves all its channels: leave out the other options")
    if facts.text is None:
        vector, unit, method = (
            read_style_vector(path, generator),
            "the length in the file",
            f"{IMPORTED} {path.name}",
        )
    else:
        vector, unit = text_direction(path, facts.text, facts.beta, generator), "one sigma of the most relevant channel"
        method = f"channels of {path.name} for {Path(facts.text).name}, beta {facts.beta:g}"
    return Direction(_name(path, facts), vector, facts.generator_sha256, "s", unit, method=method)


def _check_fit(direction: Direction, generator: Generator) -> None:
    if direction.space not in generator.spaces:
        raise ParamsError(f"{generator.family} has no space {direction.space!r}: it has {', '.join(generator.spaces)}")
    if direction.space == "s":
        check_styles(direction.vector, generator, direction.name)
        return
    if direction.space == "z" and generator.n_latent > 1:
        raise ParamsError("this direction is in z, and edits move w_plus: a z direction on w codes gives nonsense")
    shapes = [(generator.w_dim,), (generator.n_latent, generator.w_dim)]
    if tuple(direction.vector.shape) not in shapes:
        raise ParamsError(
            f"{direction.name} is {list(direction.vector.shape)}, latents of this generator are {list(shapes[1])}: "
            "it was made for another one"
        )
    check_layers(direction.layers, generator.n_latent, direction.name)
