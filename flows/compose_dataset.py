"""plan → compose: new pictures from the latents of a dataset, or from seeds."""

import time
from functools import partial
from typing import Any

from prefect import flow

from flows.ledger import finish
from flows.notify import HOOKS
from flows.runners import run_shards
from gan_core.recipes.compose import begin_compositions, plan_compositions, summarise_compositions
from tasks.compose import compose
from tasks.tracking import failures_tracked


@flow(name="compose-dataset", flow_run_name="{output}", **HOOKS)
def compose_dataset(
    source: str = "runs/demo",
    output: str = "runs/compositions",
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
    update: bool = False,
) -> dict[str, float]:
    """Draw the compositions of ``compose.plan`` from ``source`` into ``output``; return the mean scores.

    ``source`` is a run that has encoded a dataset, a folder of shards with latents, or ``seeds:NUMBER``. Finished
    shards are skipped by their receipts. Everything is checked before anything is written: ``UserError``.

    Args:
        source: A run that has encoded a dataset, a folder of shards with latents, or seeds:NUMBER.
        output: The run's folder or URL; a run that is there already goes on where it ended.
        params_file: The parameter file; the section compose holds the plan.
        overrides: Laid over the parameter file, such as {"compose.plan": [...]}.
        update: Redo what differs from the run in the output folder, instead of refusing.
    """
    started = time.time()
    run, planned, sources = plan_compositions(source, output, params_file, overrides, update)
    begin_compositions(run, planned, sources)
    with failures_tracked(run, started) as samples:
        done = run_shards(run, {"compose": compose})
    return finish(run, done, partial(summarise_compositions, run), started, samples)
