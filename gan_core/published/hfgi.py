"""The networks of features in a published file of HFGI, beside its encoder of e4e and its generator."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gan_core.errors import CheckpointError
from gan_core.inversion.features import HFGI
from gan_core.loading import load_state, model_tensors
from gan_core.published.layouts import Part

NETWORKS = ("residue", "grid_align")
COUNTER = "num_batches_tracked"


def features_of(parts: Mapping[str, Mapping[str, Any]], where: str | Path) -> tuple[HFGI, dict[str, Tensor]] | None:
    """Return the feature network and its tensors ``[...]`` by name, or None if the file has none.

    Raises ``CheckpointError`` for one of the two alone, or without the generator.
    """
    there = [name for name in NETWORKS if name in parts]
    if not there:
        return None
    if len(there) < len(NETWORKS) or not parts.get("decoder"):
        raise CheckpointError(
            f"{where} has {there[0]}.* without all of residue, grid_align, decoder: name a whole file"
        )
    state = {f"{name}.{key}": value for name in NETWORKS for key, value in parts[name].items()}
    last = state.get("residue.condition_scale3.2.weight")
    if last is None:
        raise CheckpointError(f"{where} is no whole file of HFGI: residue.condition_scale3.2.weight not found")
    network = HFGI(channels=last.shape[0])
    counters = {key: value for key, value in network.state_dict().items() if key.endswith(COUNTER)}
    return network, counters | state


def features_part(parts: Mapping[str, Mapping[str, Any]], where: str | Path) -> list[Part]:
    """Return the feature network of a file with loaded tensors as its last part, if it has one."""
    if (found := features_of(parts, where)) is None:
        return []
    network, state = found
    load_state(network, state, where)
    card: dict[str, object] = {"kind": "features", "name": network.name, "arguments": network.arguments}
    return [Part("features", model_tensors(network), card, bound=True)]
