"""align → encode → tune → edit → measure: a sharded image dataset, edited and measured."""

import time
from functools import partial
from importlib import import_module
from typing import Any

from prefect import flow

from flows.champion import resolve_encoder
from flows.ledger import finish
from flows.notify import HOOKS
from flows.runners import run_shards
from gan_core.runs.run import begin_run, plan_run
from gan_core.runs.summary import summarise
from tasks.align import align
from tasks.edit import edit
from tasks.encode import encode
from tasks.measure import measure
from tasks.paste import paste
from tasks.tracking import failures_tracked
from tasks.tune import tune

CHAIN = {"align": align, "encode": encode, "tune": tune, "edit": edit, "paste": paste, "measure": measure}


@flow(name="edit-dataset", flow_run_name="{output}", **HOOKS)
def edit_dataset(
    source: str = "data/sample",
    output: str = "runs/demo",
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
    update: bool = False,
) -> dict[str, float]:
    """Align, encode, tune, edit and measure every shard of ``source`` into ``output``; return the metrics.

    Finished shards are skipped by their receipts. Everything is checked before anything is written: ``UserError``.

    Args:
        source: The dataset: a folder or fsspec URL of Parquet shards.
        output: The run's folder or URL; a run that is there already goes on where it ended.
        params_file: The parameter file, one section a stage.
        overrides: Laid over the parameter file, such as {"tune.steps": 30, "encode.encoder": "e4e"}.
        update: Redo what differs from the run in the output folder, instead of refusing.
    """
    started = time.time()
    overrides = resolve_encoder(params_file, overrides)
    run = plan_run(source, output, params_file, overrides, update)
    begin_run(run)
    with failures_tracked(run, started) as samples:
        done = import_module("flows.batches").hand_out(run) if run.params.run.deployment else run_shards(run, CHAIN)
    return finish(run, done, partial(summarise, run.output), started, samples)
