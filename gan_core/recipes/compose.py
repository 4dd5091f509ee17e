"""A run that composes: everything is checked, and its plan written down, before anything is drawn."""

import json
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa

from gan_core.compose.base import SCORES, check_composer
from gan_core.loading import load_generator
from gan_core.params import load_params
from gan_core.recipes.composition_distances import compute_distances
from gan_core.recipes.composition_plan import Planned, entry_name, plan_groups, write_plan
from gan_core.recipes.composition_sources import Sources, open_sources
from gan_core.runs.run import Run, begin_run, check_changes, check_folder
from gan_core.runs.summary import count_rows, write_summary
from gan_core.stages.compose import ComposeStage
from gan_core.storage.shards import open_shard, shard_name
from gan_core.storage.urls import join_url

STAGES = ("compose",)


def plan_compositions(
    source: str,
    output: str,
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
    update: bool = False,
) -> tuple[Run, dict[str, list[Planned]], Sources]:
    """Check parameters, networks, sources and output folder; nothing is written.

    Returns the run, the planned pictures by shard, and where their codes come from. Raises ``UserError`` for the first
    thing that is wrong.
    """
    params = load_params(params_file, overrides)
    models, chosen = params.models, params.compose
    sources = open_sources(source, check_composer(load_generator(models.generator)), chosen.psi)
    planned = plan_groups(chosen.plan, sources)
    check_folder(source, output)
    size = chosen.rows_per_shard
    shards = {shard_name(i // size): planned[i : i + size] for i in range(0, len(planned), size)}
    identity = json.loads(json.dumps(ComposeStage(chosen, models, params.measure).identity()))
    run = Run(params, source, output, {name: len(rows) for name, rows in shards.items()}, {"compose": identity})
    check_changes(run, update)
    return run, shards, sources


def begin_compositions(run: Run, shards: dict[str, list[Planned]], sources: Sources) -> None:
    """Write ``run.json`` and the plan, first removing shards of an earlier run that this one no longer has."""
    begin_run(run)
    write_plan(run.output, shards, run.params.compose.plan, sources)


def summarise_compositions(run: Run) -> dict[str, float]:
    """Write ``summary.json``, and return its metrics by entry: mean scores (``seam/panorama``) and distances."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    shards = [join_url(run.output, "compose", shard) for shard in run.shards]
    rows, _ = count_rows(shards, "compose")
    for url in shards:
        with open_shard(url) as file:
            table = file.read(columns=["name", *SCORES])
        for score in SCORES:
            for name, value in zip(table["name"].to_pylist(), table[score].to_pylist(), strict=True):
                if value is not None:
                    scores[f"{score}/{name}"].append(value)
    total = compute_distances(shards, [entry_name(spec) for spec in run.params.compose.plan])
    total.values |= {name: float(np.mean(values)) for name, values in scores.items()}
    return write_summary(run.output, total, rows)


def is_composition(run: Run) -> bool:
    """Say whether a run composed, rather than edited."""
    return run.stages == STAGES


def read_compositions(run: Run, limit: int) -> dict[str, list[dict[str, Any]]]:
    """Return the first ``limit`` finished rows of each entry by its name; only their pictures are read."""
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for shard in run.shards:
        room = {name: limit - len(rows) for name, rows in found.items()}
        with open_shard(join_url(run.output, "compose", shard)) as file:
            wanted = []
            for i, name in enumerate(file.read(columns=["name"])["name"].to_pylist()):
                if name and room.setdefault(name, limit) > 0:
                    room[name] -= 1
                    wanted.append(i)
            for row in file.read().take(pa.array(wanted, pa.int64())).to_pylist():
                found[row["name"]].append(row)
    return dict(found)


def count_failures(run: Run) -> dict[tuple[str, str], int]:
    """Return how many rows failed by status and reason."""
    counts: Counter[tuple[str, str]] = Counter()
    for shard in run.shards:
        with open_shard(join_url(run.output, "compose", shard)) as file:
            table = file.read(columns=["status", "reason"])
        pairs = zip(table["status"].to_pylist(), table["reason"].to_pylist(), strict=True)
        counts.update(pair for pair in pairs if pair[0] != "ok")
    return dict(counts)
