"""The chain align → encode → tune → edit → measure: which stages a run has, and how its parameters build them."""

from collections.abc import Callable

from gan_core.params import Params
from gan_core.precision import keep_freed_memory
from gan_core.runs.stage import Stage

Builder = Callable[[Params, str], Stage]


def stage_names(params: Params) -> tuple[str, ...]:
    """Return the stages of a run in order; ``tune`` and ``paste`` are left out when they are switched off."""
    off = {"tune": not params.tune.enabled, "paste": not params.paste.enabled}
    return tuple(name for name in STAGES if not off.get(name))


def build_stage(name: str, params: Params, source: str) -> Stage:
    """Build one stage with its networks; raises ``UserError`` for a checkpoint or parameter that can't be used.

    From then on the process keeps the memory that it frees: encoding and editing take a sixth less time at 64 px.
    """
    keep_freed_memory()
    return (STAGES | OTHER_STAGES)[name](params, source)


def _align(params: Params, source: str) -> Stage:
    from gan_core.stages.align import AlignStage

    return AlignStage(source, params.align, params.models.landmarks, params.run.batch_size)


def _encode(params: Params, source: str) -> Stage:
    from gan_core.stages.encode import EncodeStage

    return EncodeStage(params.encode, params.models, params.run.batch_size, params.run.precision)


def _tune(params: Params, source: str) -> Stage:
    from gan_core.stages.tune import TuneStage

    edits = _drawing(params, source) if params.tune.persist == "none" else None
    return TuneStage(params.tune, params.models, edits)


def _edit(params: Params, source: str) -> Stage:
    from gan_core.stages.drawn import DrawnEditStage

    edits = _drawing(params, source)
    return DrawnEditStage(edits) if params.tune.enabled and params.tune.persist == "none" else edits


def _drawing(params: Params, source: str) -> Stage:
    from gan_core.stages.edit import EditStage
    from gan_core.stages.references import SourceLatents

    latents_of = SourceLatents(source, lambda: [_align(params, source), _encode(params, source)])
    return EditStage(params.edits, params.models, params.tune.enabled, params.run.batch_size, latents_of)


def _paste(params: Params, source: str) -> Stage:
    from gan_core.stages.paste import PasteStage

    return PasteStage(source, params.paste, params.edits, params.align.max_pixels)


def _measure(params: Params, source: str) -> Stage:
    from gan_core.stages.measure import MeasureStage

    return MeasureStage(params.measure, params.edits, params.models, params.tune.enabled, params.run.batch_size)


def _translate(params: Params, source: str) -> Stage:
    from gan_core.recipes.translate import build_translation

    return build_translation(params, source, lambda: _align(params, source))


def _compose(params: Params, source: str) -> Stage:
    from gan_core.stages.compose import ComposeStage

    return ComposeStage(params.compose, params.models, params.measure)


OTHER_STAGES: dict[str, Builder] = {"compose": _compose, "translate": _translate}
"""Stages of flows beside the chain."""
STAGES: dict[str, Builder] = {
    "align": _align,
    "encode": _encode,
    "tune": _tune,
    "edit": _edit,
    "paste": _paste,
    "measure": _measure,
}
