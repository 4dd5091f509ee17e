"""Read published path models: state dicts of GANLatentDiscovery, WarpedGANSpace and DeCurvEd, recognised by key."""

from collections.abc import Callable
from pathlib import Path

import torch

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import Loaded
from gan_core.checkpoints.stored import Refused, StateDict, plain_names
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.base import Generator
from gan_core.loading import load_state
from gan_core.paths.base import PathModel
from gan_core.paths.flow import Curvilinear
from gan_core.paths.linear import FullyConnected, Linear, Orthogonal, Projective
from gan_core.paths.space import Frame, check_space, code_width
from gan_core.paths.stored import Origin, SemanticPaths
from gan_core.paths.warped import Warped
from gan_core.published.layouts import check_finite

UNUSED = ("num_batches_tracked", "_num_evals")
"""Endings of tensors that only training uses."""
UNSTATED = "not stated in the file that the paths come from: ask its authors"
FIRST_LAYER = "chain.0.odefunc.diffeq.layers.0._layer.weight"


def read_published_paths(
    path: str | Path, space: str, generator: Loaded[Generator], projective: bool, count: int | None
) -> SemanticPaths:
    """Read a deformator, support sets or a flow as unnamed paths through ``space`` of a generator.

    A file holds it alone, or, as one of a training does, in a dictionary under a name.

    The weights don't tell a ``projective`` deformator from a linear one, nor how many axes of a flow are paths
    (``count``, all by default). Raises ``UserError`` for unknown or damaged files, for a space that the
    generator doesn't have, and for another width of codes.
    """
    check_space(generator.model, space)
    contents = open_checkpoint(path)
    whole = contents.load()
    inside = [whole, *whole.values()] if isinstance(whole, dict) else []
    states = [plain_names(state) for state in inside if isinstance(state, dict)]
    found = next(((build, state) for state in states for key, build in BUILDERS.items() if key in state), None)
    if found is None:
        raise CheckpointError(f"{path} holds no deformator, support sets or flow: no published paths are like it")
    build, state = found
    width = code_width(generator.model, space)
    try:
        check_finite(state)
        with torch.device("meta"):
            _filled(build(state, width, projective, count), {key: part.to("meta") for key, part in state.items()}, path)
        model = build(state, width, projective, count)
    except Refused as error:
        raise CheckpointError(f"{path} is refused: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: a part of the paths is missing ({error})") from None
    if model.dim != width:
        raise CheckpointError(
            f"{path} moves codes of {model.dim} numbers, {space} of this generator has {width}: it was made for another"
        )
    origin = Origin(f"{contents.path.name}, sha256 {contents.sha256}; named by an attribute network", UNSTATED)
    paths = SemanticPaths(_filled(model, state, path), Frame(width), space, generator.sha256, origin)
    return paths.eval().requires_grad_(False)


def _filled(model: PathModel, state: StateDict, path: str | Path) -> PathModel:
    kept = {key: value for key, value in model.state_dict().items() if key.endswith(UNUSED)}
    load_state(model, kept | state, path)
    return model


def _orthogonal(state: StateDict, width: int, projective: bool, count: int | None) -> PathModel:
    return Orthogonal(len(state["log_mat_half"]))


def _linear(state: StateDict, width: int, projective: bool, count: int | None) -> PathModel:
    out, inputs = state["linear.weight"].shape
    return (Projective if projective else Linear)(width, inputs, out)


def _fully_connected(state: StateDict, width: int, projective: bool, count: int | None) -> PathModel:
    hidden, inputs = state["fc1.weight"].shape
    return FullyConnected(width, inputs, inputs, hidden)


def _warped(state: StateDict, width: int, projective: bool, count: int | None) -> PathModel:
    sets, supports = state["ALPHAS"].shape
    return Warped(state["SUPPORT_SETS"].shape[1] // supports, sets, supports // 2)


def _curvilinear(state: StateDict, width: int, projective: bool, count: int | None) -> PathModel:
    weights = [state[key] for key in sorted(state) if key.endswith("._layer.weight")]
    dim = weights[0].shape[1]
    if count is not None and not 0 < count <= dim:
        raise ParamsError(f"{count} paths are too many or too few: this flow has {dim} axes")
    return Curvilinear(dim, count, [len(weight) for weight in weights[:-1]])


BUILDERS: dict[str, Callable[[StateDict, int, bool, int | None], PathModel]] = {
    "log_mat_half": _orthogonal,
    "linear.weight": _linear,
    "fc1.weight": _fully_connected,
    "SUPPORT_SETS": _warped,
    FIRST_LAYER: _curvilinear,
}
