"""plan → compose: new pictures from the latents of a dataset, or from seeds."""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gan_core.compose.base import OPERATIONS, SCORES, check_composer, entry_name
from gan_core.device import on_host
from gan_core.loading import load_generator
from gan_core.pages.page import Page
from gan_core.params import CompositionSpec, Params
from gan_core.recipes.base import RECIPES, Plan, Recipe
from gan_core.recipes.composition_plan import PLAN, plan_groups, write_plan
from gan_core.recipes.composition_sources import open_sources
from gan_core.runs.run import Run
from gan_core.runs.stage import build_stage, identity_of
from gan_core.runs.summary import count_rows, write_summary
from gan_core.stages.composition_distances import compute_distances
from gan_core.storage.shards import BASE_NAMES, open_shard, shard_name

if TYPE_CHECKING:
    import pandas as pd


@RECIPES.register("compose")
class ComposeRecipe(Recipe):
    """Draw the compositions of ``compose.plan``: panoramas, interpolations, transfers of parts."""

    name: ClassVar[str] = "compose"
    published: ClassVar[str] = "compose"

    def stages(self, params: Params) -> tuple[str, ...]:
        return ("compose",)

    def plan(self, params: Params, source: str, output: str) -> Plan:
        """Check networks and sources, and expand the plan; its shards are written when the run begins."""
        models, chosen = params.models, params.compose
        with on_host():  # codes are drawn once, and their bytes are the same whatever draws pictures from them
            sources = open_sources(source, check_composer(load_generator(models.generator)), chosen.psi)
        planned = plan_groups(chosen.plan, sources)
        size = chosen.rows_per_shard
        shards = {shard_name(i // size): planned[i : i + size] for i in range(0, len(planned), size)}
        identity = identity_of(build_stage("compose", params, source))
        rows = {name: len(rows) for name, rows in shards.items()}
        run = Run(params, source, output, rows, {"compose": identity}, self.name)
        return Plan(run, lambda: write_plan(run, shards, sources), scores=tuple(self.score_names(run)))

    def inputs(self, run: Run) -> list[str]:
        return run.stage_shards(PLAN)

    def scored(self, run: Run, shard: str) -> "Iterator[pd.DataFrame]":
        """Yield the rows of each entry under the names that totals have: ``seam/panorama``."""
        with open_shard(run.shard("compose", shard)) as file:
            frame = file.read(columns=[*BASE_NAMES, "name", *SCORES]).to_pandas()
        known = {entry_name(spec): _scores_of(spec) for spec in run.params.compose.plan}
        for entry, rows in frame.groupby(frame.pop("name"), dropna=False, sort=False):
            scores = {name: rows[name.partition("/")[0]] for name in known.get(entry, [])}
            yield rows[[*BASE_NAMES]].assign(**scores)

    def score_names(self, run: Run) -> list[str]:
        return [name for spec in run.params.compose.plan for name in _scores_of(spec)]

    def page(self, run: Run) -> Page:
        from gan_core.recipes import compose_page

        return compose_page.page(run)

    def summarise(self, run: Run) -> dict[str, float]:
        return summarise_compositions(run)


def _scores_of(spec: CompositionSpec) -> list[str]:
    """The scores of an entry by the names that totals have; none where its package is gone."""
    known = OPERATIONS.get(spec.operation).scores if spec.operation in OPERATIONS else ()
    return [f"{score}/{entry_name(spec)}" for score in known]


def summarise_compositions(run: Run) -> dict[str, float]:
    """Write ``summary.json``, and return its metrics by entry: mean scores (``seam/panorama``) and distances."""
    scores: defaultdict[str, list[float]] = defaultdict(list)
    shards = run.stage_shards("compose")
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
