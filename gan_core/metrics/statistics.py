"""Statistics as named arrays, the form in which they lie beside a shard."""

from collections.abc import Iterable, Mapping

import numpy as np

from gan_core.metrics.base import METRICS, States
from gan_core.metrics.names import normal_name

SEPARATOR = "|"


def pack(states: Mapping[str, States]) -> dict[str, np.ndarray]:
    """States by metric -> arrays by ``<metric>|<name>|<field>``."""
    return {
        SEPARATOR.join((metric, name, field)): np.asarray(value)
        for metric, named in states.items()
        for name, state in named.items()
        for field, value in state.items()
    }


def unpack(arrays: Mapping[str, np.ndarray]) -> dict[str, States]:
    """The inverse of ``pack``; names that were packed by an earlier version are as they are called now."""
    states: dict[str, States] = {}
    for key, value in arrays.items():
        metric, _, rest = key.partition(SEPARATOR)
        name, _, field = rest.rpartition(SEPARATOR)  # an edit's name may have one too
        states.setdefault(metric, {}).setdefault(normal_name(name), {})[field] = value
    return states


def merge_all(parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, States]:
    """Merge the packed statistics of disjoint parts, one part in memory at a time."""
    merged: dict[str, States] = {}
    for part in parts:
        merge_into(merged, unpack(part))
    return merged


def merge_into(merged: dict[str, States], part: Mapping[str, States]) -> None:
    """Add the statistics of another part, by metric, in place."""
    for metric, named in part.items():
        into, merge = merged.setdefault(metric, {}), METRICS.get(metric).merge
        for name, state in named.items():
            into[name] = merge(into[name], state) if name in into else state
