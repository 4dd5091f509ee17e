"""What can be named in ``params.yaml``, as lines of text: a name and what its documentation says first."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from gan_core.params import load_params
from gan_core.registry import Registry

REGISTRIES = {
    "encoders": ("gan_core.encoders.base", "ENCODERS"),
    "generators": ("gan_core.generators.base", "GENERATORS"),
    "metrics": ("gan_core.metrics.base", "METRICS"),
    "landmarks": ("gan_core.align.landmarks", "LANDMARK_SOURCES"),
}


def menu(what: str, params_file: str) -> Iterator[str]:
    """Yield one line for each thing of the kind ``what``; raises ``UserError`` if the directions can't be read."""
    if what == "directions":
        yield from _directions(params_file)
        return
    module, name = REGISTRIES[what]
    registry: Registry[Any] = getattr(import_module(module), name)
    for entry, item in registry:
        first = " ".join((item.__doc__ or "").split("\n\n")[0].split())
        yield f"{entry:16} {first}"


def list_file(path: str | Path) -> Iterator[str]:
    """Yield one line for each direction or path of a file; raises ``UserError`` if it holds neither."""
    from gan_core.checkpoints.files import read_card
    from gan_core.editing.directions import describe_direction, load_directions
    from gan_core.paths.stored import describe_named, load_paths

    if read_card(path).kind == "paths":
        yield from describe_named(load_paths(path).model)
    else:
        yield from map(describe_direction, load_directions(path).model.values())


def _directions(params_file: str) -> Iterator[str]:
    models = load_params(params_file).models
    yield from list_file(models.directions)
    if Path(models.paths).is_file():
        yield from list_file(models.paths)
