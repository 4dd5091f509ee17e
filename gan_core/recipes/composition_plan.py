"""The composition plan of a run: which sources are combined, written as shards before anything is drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_core.compose.base import OPERATIONS, check_number, entry_name
from gan_core.device import fetch
from gan_core.errors import ParamsError
from gan_core.params import CompositionSpec
from gan_core.recipes.composition_sources import Sources
from gan_core.rows import Row
from gan_core.runs.clearing import clear
from gan_core.runs.run import Run
from gan_core.storage.names import SHARD_END
from gan_core.storage.receipts import Receipt, code_version, content_key, valid_receipt, write_receipt
from gan_core.storage.shards import ShardWriter
from gan_core.storage.urls import names_in

PLAN = "plan"
FIELDS = (
    pa.field("entry", pa.int32()),
    pa.field("operation", pa.string()),
    pa.field("sources", pa.list_(pa.string())),
    pa.field("codes", pa.binary()),
    pa.field("boxes", pa.list_(pa.list_(pa.float64()))),
)


@dataclass(frozen=True)
class Planned:
    """One picture to make: the entry of the plan that asks for it, its own key and the keys of its sources."""

    entry: int
    key: str
    sources: tuple[str, ...]


def plan_groups(plan: Sequence[CompositionSpec], sources: Sources) -> list[Planned]:
    """Expand the entries: the groups that are named, then ``count`` random ones, drawn from the entry's ``seed``.

    Raises ``ParamsError`` for an empty plan, two entries of one name, unknown keys and groups of the wrong size.
    """
    names = [entry_name(spec) for spec in plan]
    if not plan:
        raise ParamsError("compose.plan is empty: add an entry, such as {operation: panorama, count: 4, group: 5}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ParamsError(f"compose: {', '.join(twice)} is planned more than once: give each entry a name of its own")
    return [planned for i, spec in enumerate(plan) for planned in _expand(i, spec, sources)]


def _expand(entry: int, spec: CompositionSpec, sources: Sources) -> Iterator[Planned]:
    operation, name = OPERATIONS.get(spec.operation), entry_name(spec)
    groups = [tuple(group) for group in spec.sources] + list(_random_groups(spec, operation.fewest, sources))
    if not groups:
        raise ParamsError(f"compose: {name} has no sources: name some, or give a count of random groups")
    if column := getattr(spec, "column", ""):
        sources.boxes(column)
    for index, group in enumerate(groups):
        check_number(operation, name, len(group))
        for key in group:
            sources.check(key)
        yield Planned(entry, f"{name}/{index:05d}", group)


def _random_groups(spec: CompositionSpec, fewest: int, sources: Sources) -> Iterator[tuple[str, ...]]:
    size = spec.group or fewest
    if spec.count and len(sources.keys) < size:
        raise ParamsError(
            f"compose: {entry_name(spec)} needs {size} different sources, and there are {len(sources.keys)}: "
            "make its group smaller"
        )
    stream = np.random.default_rng(spec.seed)
    for _ in range(spec.count):
        yield tuple(sources.keys[i] for i in stream.choice(len(sources.keys), size, replace=False))


def write_plan(run: Run, shards: dict[str, list[Planned]], sources: Sources) -> None:
    """Write one shard of planned pictures for each name, with the codes of their sources, unless it is there already.

    Shards of a longer plan before are removed.

    A picture one of whose sources failed is planned as a row that failed.
    """
    earlier = [name for name in names_in(run.path(PLAN)) if name.endswith(SHARD_END)]
    clear(run.output, [PLAN], earlier, [PLAN], shards)
    for shard, planned in shards.items():
        url = run.shard(PLAN, shard)
        wanted = sorted({key for one in planned for key in one.sources if key not in sources.failed})
        codes = sources.latents(wanted)
        with ShardWriter(url, FIELDS) as writer:
            writer.write([_row(one, run.params.compose.plan, sources, codes) for one in planned])
        identity: dict[str, Any] = {"sources": [list(one.sources) for one in planned]}
        receipt = Receipt(
            stage=PLAN,
            key=content_key(PLAN, code_version(1), identity, {}),
            input_keys={},
            output_sha256=writer.sha256,
            rows=dict(sorted(writer.statuses.items())),
            seconds=0.0,
            code_version=code_version(1),
            identity=identity,
        )
        if valid_receipt(url)[0] != receipt:
            write_receipt(url, receipt)


def _row(planned: Planned, plan: Sequence[CompositionSpec], sources: Sources, codes: dict[str, Tensor]) -> Row:
    base = {"key": planned.key, "stage": PLAN, "status": "ok", "reason": ""}
    row = base | {"entry": planned.entry, "operation": plan[planned.entry].operation, "sources": list(planned.sources)}
    broken = [key for key in planned.sources if key in sources.failed]
    if broken:
        return row | {"status": "bad_source", "reason": f"{broken[0]} is {sources.failed[broken[0]]}"}
    column, first = getattr(plan[planned.entry], "column", ""), planned.sources[0]
    if column:
        row["boxes"] = sources.boxes(column).get(first)
        if not row["boxes"]:
            return row | {"status": "bad_source", "reason": f"{first} has no boxes in the column {column}"}
    return row | {"codes": fetch(torch.stack([codes[key] for key in planned.sources])).astype("<f4").tobytes()}
