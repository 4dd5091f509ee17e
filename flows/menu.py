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


def _directions(params_file: str) -> Iterator[str]:
    from gan_core.editing.directions import list_directions

    models = load_params(params_file).models
    for direction in list_directions(models.directions):
        low, high = direction.range
        layers = "all layers" if direction.layers is None else "layers {} to {}".format(*direction.layers)
        scores = ", ".join(f"{name} {value:.3g}" for name, value in direction.scores.items())
        yield (
            f"{direction.name:16} {direction.space}, {layers}, strengths {low:g} to {high:g} (1 = {direction.unit}); "
            f"{direction.method or 'no method noted'}{'; ' + scores if scores else ''}"
        )
    if Path(models.paths).is_file():
        from gan_core.paths.stored import describe_named, load_paths

        yield from describe_named(load_paths(models.paths))
