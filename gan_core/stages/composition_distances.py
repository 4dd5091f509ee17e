"""How far the compositions of an entry are, as a set, from the pictures of their sources: FID and SWD."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from gan_core.judges.pictures import Pictures
from gan_core.metrics.base import ALIGNED, METRICS, Metric, RowMetric, Setting, States, Summary
from gan_core.metrics.photographs import IdentityPairs
from gan_core.metrics.statistics import SEPARATOR, merge_all, merge_into, pack
from gan_core.params import MeasureParams, ModelPaths
from gan_core.storage.receipts import read_statistics

COMPOSED = "composed"


class Pair(NamedTuple):
    """A composition, or a square of one, and a source, ``[1, 3, S, S]`` both, by the number of its entry in the plan.

    ``key`` tells squares apart, and is the same for those of equal place in runs of one plan.
    """

    entry: int
    key: str
    source: Tensor
    composed: Tensor


class Distances:
    """Those of ``measure.metrics`` that compare sets, gathered for each entry of a plan apart."""

    def __init__(self, params: MeasureParams, models: ModelPaths) -> None:
        kinds = {name: METRICS.get(name) for name in params.metrics}
        setting = Setting(params, models, made=(COMPOSED,))
        self.metrics: dict[str, Metric] = {
            name: kind(setting) for name, kind in kinds.items() if not issubclass(kind, RowMetric | IdentityPairs)
        }
        self.swd_images = params.swd_images
        self._states: dict[str, States] = {}

    def identity(self) -> dict[str, Any]:
        """The metrics, the size of their sample and the hashes of their networks."""
        hashes = {name: digest for metric in self.metrics.values() for name, digest in metric.identity().items()}
        return {"metrics": list(self.metrics), "swd_images": self.swd_images, **hashes}

    def add(self, pairs: Sequence[Pair]) -> None:
        """Add pairs; nothing is added when this fails."""
        drafts = [{name: self._states_of(name, pair) for name in self.metrics} for pair in pairs]
        for draft in drafts:
            merge_into(self._states, draft)

    def statistics(self) -> dict[str, np.ndarray]:
        """Statistics since the last call, by ``<metric>|<entry>/<name>|<field>``."""
        packed, self._states = pack(self._states), {}
        return packed

    def _states_of(self, metric: str, pair: Pair) -> States:
        states: States = {}
        pictures = Pictures({ALIGNED: pair.source, COMPOSED: pair.composed}, [pair.key])
        self.metrics[metric].update(states, pictures, {})
        return {f"{pair.entry}/{name}": state for name, state in states.items()}


def pair_squares(entry: int, key: str, sources: Tensor, composed: Tensor) -> list[Pair]:
    """Pair a picture ``[1, 3, H, W]`` with sources ``[n, 3, S, S]``, square by square from its beginning.

    No more squares than ``n`` are looked at, or all of those that one source is drawn out to.
    """
    size = sources.shape[-1]
    squares = [square for row in composed.split(size, 2) for square in row.split(size, 3)]
    if len(squares) == 1:
        return [Pair(entry, key, sources[:1], composed)]
    given = sources if len(sources) > 1 else sources.expand(len(squares), -1, -1, -1)
    return [Pair(entry, f"{key}#{i}", *pair) for i, pair in enumerate(zip(given.split(1), squares, strict=False))]


def compute_distances(shards: Sequence[str], entries: Sequence[str]) -> Summary:
    """Merge what lies beside shards: ``fid/toy-attr/<entry>``, ``swd/mean/<entry>``, ..., one entry in memory."""
    summary = Summary()
    for index, entry in enumerate(entries):
        for metric, states in merge_all(_of_entry(shards, index)).items():
            found = METRICS.get(metric).compute(states)
            summary.values |= {f"{name.removesuffix(COMPOSED)}{entry}": value for name, value in found.values.items()}
            summary.omitted |= {f"{name.removesuffix(COMPOSED)}{entry}": why for name, why in found.omitted.items()}
    return summary


def _of_entry(shards: Sequence[str], entry: int) -> Iterable[Mapping[str, np.ndarray]]:
    mark = f"{SEPARATOR}{entry}/"
    for shard in shards:
        arrays = read_statistics(shard).items()
        yield {key.replace(mark, SEPARATOR, 1): value for key, value in arrays if mark in key}
