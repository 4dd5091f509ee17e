"""align → damage → paste → measure: photographs of faces against damaged pictures of themselves."""

from collections import defaultdict
from collections.abc import Mapping
from typing import ClassVar

from scipy.stats import spearmanr

from gan_core.align.framing import complete_sizes
from gan_core.device import compute_on
from gan_core.metrics.names import find_score
from gan_core.pages.page import Page
from gan_core.params import Params
from gan_core.recipes.base import RECIPES, Recipe
from gan_core.runs.run import Run
from gan_core.runs.stage import Stage, settle
from gan_core.runs.summary import add_to_summary
from gan_core.stages.align import AlignStage
from gan_core.stages.damage import DAMAGES, GREY, VIEWS, DamageStage, damage_columns
from gan_core.stages.measure import MeasureStage, check_faces
from gan_core.stages.paste import PasteStage

SIZE = 256
"""Pixels of the aligned faces, where ``align.size`` isn't set."""
ORDER = "order"
"""In ``summary.json``: by judge and kind of damage, whether the scores have the order of the strengths (1: always)."""


@RECIPES.register("photographs")
class PhotographsRecipe(Recipe):
    """Align photographs of faces, damage them, and measure whether the judges see it; nothing is inverted."""

    name: ClassVar[str] = "photographs"
    published: ClassVar[str] = "align"

    def stages(self, params: Params) -> tuple[str, ...]:
        return ("align", "damage", *(["paste"] if params.paste.enabled else []), "measure")

    def complete(self, params: Params) -> Params:
        return params.model_copy(update={"align": complete_sizes(params.align, SIZE)})

    def build_stage(self, name: str, params: Params, source: str) -> Stage:
        if name == DamageStage.name:
            return super().build_stage(name, params, source)
        with compute_on(params.run.device):
            return settle(self._build(name, params, source), params)

    def _build(self, name: str, params: Params, source: str) -> Stage:
        if name == "align":
            return AlignStage(source, params.align, params.models.landmarks, params.run.batch_size)
        if name == "paste":
            paste = PasteStage(source, params.paste, [GREY], params.align.max_pixels)
            paste.inputs = ("source", "align", DamageStage.name)
            return paste
        check_faces(params)
        made = (*VIEWS, *damage_columns())
        measure = MeasureStage(params.measure, (), params.models, False, params.run.batch_size, made=made)
        measure.inputs = ("align", DamageStage.name)
        return measure

    def summarise(self, run: Run) -> dict[str, float]:
        metrics = super().summarise(run)
        add_to_summary(run.output, {ORDER: measure_order(metrics)})
        return metrics

    def page(self, run: Run) -> Page:
        from gan_core.recipes import photographs_page

        return photographs_page.page(run)


def measure_order(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Spearman's correlation between the strengths of each damage and a metric's values, by metric and kind of damage.

    Of the metrics that are higher where pictures differ more; those that don't cover all strengths are left out.
    """
    names = {(s.metric, s.extractor): s for s in map(find_score, metrics) if s.meaning.better == "lower"}
    order: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (metric, extractor), score in names.items():
        for kind, strengths in DAMAGES.items():
            values = [metrics.get(score.of(f"{kind}@{strength:g}")) for strength in strengths]
            if None not in values and len(set(values)) > 1:
                judge = "/".join(filter(None, (metric, extractor)))
                order[judge][kind] = round(float(spearmanr(range(len(values)), values).statistic), 6)
    return dict(order)
