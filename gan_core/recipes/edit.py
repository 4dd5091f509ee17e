"""align → encode → tune → edit → measure: a dataset, edited and measured."""

from typing import ClassVar

from gan_core.align.framing import complete_sizes, framing_of
from gan_core.pages.page import Page
from gan_core.params import Params
from gan_core.recipes.base import RECIPES, Recipe
from gan_core.recipes.subject import without_face_metrics
from gan_core.runs.run import Run


@RECIPES.register("edit")
class EditRecipe(Recipe):
    """Align, encode, tune, edit and measure a dataset; ``tune`` and ``paste`` can be switched off."""

    name: ClassVar[str] = "edit"
    published: ClassVar[str] = "edit"
    sections: ClassVar[tuple[str, ...]] = ("edits",)

    def stages(self, params: Params) -> tuple[str, ...]:
        off = {"tune": not params.tune.enabled, "paste": not params.paste.enabled}
        return tuple(n for n in ("align", "encode", "tune", "edit", "paste", "measure") if not off.get(n))

    def complete(self, params: Params) -> Params:
        align = complete_sizes(params.align, framing_of(params).aligned)
        return params.model_copy(update={"align": align, "measure": without_face_metrics(params)})

    def label(self, run: Run) -> str:
        return run.params.encode.encoder

    def summarise(self, run: Run) -> dict[str, float]:
        from gan_core.recipes.outliers import flag_outliers

        metrics = super().summarise(run)
        flag_outliers(run)
        return metrics

    def page(self, run: Run) -> Page:
        from gan_core.recipes import edit_page

        return edit_page.page(run)
