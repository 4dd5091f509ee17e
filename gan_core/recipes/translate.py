"""(align →) translate: one of pSp's image-to-image tasks over a dataset, by an encoder and a frozen generator."""

from collections import defaultdict
from typing import ClassVar

import numpy as np

from gan_core.align.framing import complete_sizes
from gan_core.metrics.base import Summary
from gan_core.pages.page import Page
from gan_core.params import Params
from gan_core.recipes.base import RECIPES, Recipe
from gan_core.runs.run import Run
from gan_core.runs.stage import Stage, settle
from gan_core.runs.summary import count_rows, write_summary
from gan_core.stages.align import AlignStage
from gan_core.stages.translate import FACTOR, translation_framing, why_unscored
from gan_core.storage.shards import open_shard
from gan_core.translation.scores import SCORES, SCORES_OF

STAGE = "translate"


@RECIPES.register("translate")
class TranslateRecipe(Recipe):
    """Translate a dataset by the task of ``translate``: sketches, label maps, small or masked pictures to faces."""

    name: ClassVar[str] = "translate"
    published: ClassVar[str] = "translate"

    def stages(self, params: Params) -> tuple[str, ...]:
        return ("align", STAGE) if params.translate.align else (STAGE,)

    def complete(self, params: Params) -> Params:
        sizes = complete_sizes(params.align, translation_framing(params).aligned)
        return params.model_copy(update={"align": sizes})

    def build_stage(self, name: str, params: Params, source: str) -> Stage:
        if name == AlignStage.name:
            return settle(AlignStage.framed(params, source, translation_framing(params)), params)
        return super().build_stage(name, params, source)

    def label(self, run: Run) -> str:
        return run.params.translate.task

    def page(self, run: Run) -> Page:
        from gan_core.recipes import translate_page

        return translate_page.page(run)

    def summarise(self, run: Run) -> dict[str, float]:
        return summarise_translation(run)


def summarise_translation(run: Run) -> dict[str, float]:
    """Write ``summary.json`` with the mean of each score, super-resolution's by factor too; return its metrics.

    A score that no row has is left out, and named there as omitted. Raises ``DataError`` for an unfinished shard.
    """
    values: defaultdict[str, list[float]] = defaultdict(list)
    shards = run.stage_shards(STAGE)
    rows, _ = count_rows(shards, STAGE)
    for url in shards:
        for name, factor, value in _read_scores(url):
            values[name].append(value)
            if run.params.translate.task == "super-resolution":
                values[f"{name}/x{factor}"].append(value)
    means = {name: float(np.mean(found)) for name, found in values.items()}
    params = run.params.translate
    absent = [name for name in SCORES_OF[params.task] if name not in means]
    omitted = {name: why_unscored(name, params) or "no row was translated" for name in absent}
    return write_summary(run.output, Summary(means, omitted), rows)


def _read_scores(url: str) -> list[tuple[str, int, float]]:
    with open_shard(url) as file:
        names = [name for name in file.schema_arrow.names if name in SCORES]
        columns = file.read(columns=[FACTOR, *names]).to_pydict()
    factors = columns.pop(FACTOR)
    pairs = [(name, factor, value) for name in names for factor, value in zip(factors, columns[name], strict=True)]
    return [(name, factor, value) for name, factor, value in pairs if value is not None]
