"""A recipe: align → denoise → encode → tune → edit → measure."""

from dataclasses import replace
from typing import ClassVar

from gan_core.pages.page import Page
from gan_core.params import Params
from gan_core.recipes.edit import EditRecipe
from gan_core.runs.run import Run
from gan_core.runs.stage import Stage

CLEAN = ("encode", "tune")
"""The stages that read the denoised image; the scores still compare with the aligned one."""
SUBTITLE = "Encoder and tuning saw denoised images. Scores compare with the aligned images, noise included."


class DenoisedRecipe(EditRecipe):
    """Align, denoise, encode, tune, edit and measure a dataset."""

    name: ClassVar[str] = "denoised"

    def stages(self, params: Params) -> tuple[str, ...]:
        align, *others = super().stages(params)
        return (align, "denoise", *others)

    def build_stage(self, name: str, params: Params, source: str) -> Stage:
        stage = super().build_stage(name, params, source)
        if name in CLEAN:
            stage.inputs = tuple("denoise" if earlier == "align" else earlier for earlier in stage.inputs)
        return stage

    def label(self, run: Run) -> str:
        return f"{super().label(run)}, denoised"

    def page(self, run: Run) -> Page:
        return replace(super().page(run), kicker="A denoised dataset", subtitle=SUBTITLE)
