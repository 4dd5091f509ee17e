"""A run that translates: its stages, its checks before anything is written, and its totals."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from gan_core.metrics.base import Summary
from gan_core.params import Params, TranslateParams
from gan_core.runs.run import Run, plan_run
from gan_core.runs.stage import Stage
from gan_core.runs.summary import count_rows, write_summary
from gan_core.stages.references import SourceLatents
from gan_core.stages.translate import FACTOR, TranslateStage
from gan_core.storage.shards import open_shard
from gan_core.storage.urls import join_url
from gan_core.translation.scores import SCORES
from gan_core.translation.tasks import translator_path

STAGE = "translate"


def translation_stages(params: Params) -> tuple[str, ...]:
    """Return the stages of a run that translates, in order."""
    return ("align", STAGE) if params.translate.align else (STAGE,)


def build_translation(params: Params, source: str, align: Callable[[], Stage]) -> TranslateStage:
    """Build the stage with its networks; ``align`` builds the stage that rows referred to are aligned by."""
    plain = params.model_copy(update={"translate": style_params(params.translate)})

    def stages() -> list[Stage]:
        return [*([align()] if params.translate.align else []), build_translation(plain, source, align)]

    path = params.translate.encoder or str(translator_path(params, params.translate.task))
    size = params.run.batch_size
    return TranslateStage(params.translate, params.models, path, source, size, SourceLatents(source, stages))


def style_params(params: TranslateParams) -> TranslateParams:
    """What gives the styles of rows that variants refer to: the inversion of their pictures, where a column has them.

    A label map or a sketch says nothing of colours; without pictures its own translation has to do.
    """
    pictures = params.column if params.made or params.align else params.truth
    inversion = {"task": "inversion", "encoder": "", "made": True, "column": pictures} if pictures else {}
    return params.model_copy(update={"variants": [], **inversion})


def plan_translation(
    source: str,
    output: str,
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
    update: bool = False,
) -> Run:
    """Check parameters, dataset, networks and output folder as ``plan_run`` does; nothing is written."""
    return plan_run(source, output, params_file, overrides, update, translation_stages)


def is_translation(run: Run) -> bool:
    """Say whether a run translated."""
    return STAGE in run.stages


def summarise_translation(run: Run) -> dict[str, float]:
    """Write ``summary.json`` with the mean of each score, super-resolution's by factor too; return its metrics.

    A score that no row has is left out, and named there as omitted. Raises ``DataError`` for an unfinished shard.
    """
    values: defaultdict[str, list[float]] = defaultdict(list)
    shards = [join_url(run.output, STAGE, shard) for shard in run.shards]
    rows, _ = count_rows(shards, STAGE)
    for url in shards:
        for name, factor, value in _read_scores(url):
            values[name].append(value)
            if run.params.translate.task == "super-resolution":
                values[f"{name}/x{factor}"].append(value)
    means = {name: float(np.mean(found)) for name, found in values.items()}
    return write_summary(run.output, Summary(means, {} if means else {"all": "no row was translated"}), rows)


def _read_scores(url: str) -> list[tuple[str, int, float]]:
    with open_shard(url) as file:
        names = [name for name in file.schema_arrow.names if name in SCORES]
        columns = file.read(columns=[FACTOR, *names]).to_pydict()
    factors = columns.pop(FACTOR)
    pairs = [(name, factor, value) for name in names for factor, value in zip(factors, columns[name], strict=True)]
    return [(name, factor, value) for name, factor, value in pairs if value is not None]
