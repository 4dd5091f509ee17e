"""The names that ``params.yaml`` accepts, as lines of text: each with the first sentence of its documentation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gan_core.described import describe_section, summary_of
from gan_core.errors import ParamsError, near_matches
from gan_core.params import Params, load_params
from gan_core.registry import Registry
from gan_core.storage.urls import exists

DIRECTIONS, PARAMETERS = "directions", "parameters"


def registries() -> dict[str, Registry[Any]]:
    """Return every registry of things that the parameters name, by its name in the plural."""
    from gan_core.align.landmarks import LANDMARK_SOURCES
    from gan_core.encoders.base import ENCODERS
    from gan_core.generators.base import GENERATORS
    from gan_core.importers.base import IMPORTERS
    from gan_core.inversion.refinement import REFINEMENTS
    from gan_core.judges.attribute_judges import ATTRIBUTE_JUDGES
    from gan_core.judges.extractors import EXTRACTORS
    from gan_core.judges.networks import NETWORKS
    from gan_core.metrics.base import METRICS
    from gan_core.params import EDIT_KINDS, OPERATIONS
    from gan_core.paths.base import PATHS
    from gan_core.published.layouts import LAYOUTS
    from gan_core.recipes.base import RECIPES
    from gan_core.runs.stage import STAGES
    from gan_core.sections import SECTIONS
    from gan_core.translation.inputs import INPUTS
    from gan_core.translation.masks import MASKS
    from gan_core.translation.tasks import TASKS

    return {
        "recipes": RECIPES,
        "stages": STAGES,
        "encoders": ENCODERS,
        "generators": GENERATORS,
        "refinements": REFINEMENTS,
        "landmarks": LANDMARK_SOURCES,
        "edits": EDIT_KINDS,
        "paths": PATHS,
        "operations": OPERATIONS,
        "tasks": TASKS,
        "inputs": INPUTS,
        "masks": MASKS,
        "metrics": METRICS,
        "extractors": EXTRACTORS,
        "judges": ATTRIBUTE_JUDGES,
        "networks": NETWORKS,
        "importers": IMPORTERS,
        "layouts": LAYOUTS,
        "sections": SECTIONS,
    }


def menu(what: str, params_file: str) -> Iterator[str]:
    """Yield one line for each thing of the kind ``what``, or for each kind.

    Raises ``UserError`` for an unknown kind, or if the directions can't be read.
    """
    kinds = registries()
    if what == DIRECTIONS:
        yield from _directions(params_file)
    elif what == PARAMETERS:
        yield from (f"{p.key:26} {p.default or 'required':44} {p.meaning}" for p in describe_section(Params))
    elif what == "kinds":
        yield from (f"{name:12} {', '.join(registry.names())}" for name, registry in kinds.items())
        yield from (f"{name:12} `edit-dataset list {name}`" for name in (DIRECTIONS, PARAMETERS))
    elif what not in kinds:
        raise ParamsError(f"nothing is called {what!r}{near_matches(what, [DIRECTIONS, PARAMETERS, *kinds])}")
    else:
        for entry, item in kinds[what]:
            yield f"{entry:16} {summary_of(item)}"


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
    if exists(models.paths):
        yield from list_file(models.paths)
