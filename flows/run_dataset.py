"""A run of any recipe, those of other packages included."""

import json
from typing import Any

from prefect import Flow, flow, tags

from flows.compose_dataset import compose_dataset
from flows.edit_dataset import edit_dataset
from flows.naming import by_output, named
from flows.notify import HOOKS
from flows.run import planned, run_recipe
from flows.translate_dataset import translate_dataset
from gan_core.recipes.base import Plan
from gan_core.runs.run import RUN_FILE
from gan_core.storage.urls import join_url

LARGEST_SHOWN = 256 * 1024
"""Letters; Prefect takes 512 kB by default, and a letter may take more than a byte."""
LONGEST_SHOWN, MOST_SHOWN = 1024, 200


@flow(name="run-dataset", flow_run_name=named(by_output), **HOOKS)
def run_dataset(
    recipe: str,
    source: str = "data/sample",
    output: str = "runs/mine",
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
    update: bool = False,
) -> dict[str, float]:
    """Make a run of ``recipe`` over ``source`` into ``output``; return its metrics.

    Finished shards are skipped by their receipts. Everything is checked before anything is written: ``UserError``.

    Args:
        recipe: What is made, a name of `edit-dataset list recipes`.
        source: The dataset: a folder or fsspec URL of Parquet shards.
        output: The run's folder or URL; an existing run is continued.
        params_file: The parameter file, one section a stage.
        overrides: Values that replace those of the file, such as {"tune.steps": 30}.
        update: Redo what differs from the run in the output folder, instead of refusing.
    """
    return run_recipe(recipe, source, output, params_file, overrides, update)


OWN_FLOWS: dict[str, Flow[..., dict[str, float]]] = {
    "edit": edit_dataset,
    "compose": compose_dataset,
    "translate": translate_dataset,
}
"""Flows of one recipe, by its name; all other recipes run by ``run_dataset``."""


def start(
    plan: Plan, params_file: str = "params.yaml", overrides: dict[str, Any] | None = None, update: bool = False
) -> dict[str, float]:
    """Carry out a plan, which is held, as a run of the flow of its recipe.

    Prefect shows the parameters that it was made from; what is too large to be shown is in ``run.json``.
    """
    run, shown = plan.run, _shown(overrides, plan.run.output)
    with planned(plan), tags("edit-dataset", run.recipe):
        if own := OWN_FLOWS.get(run.recipe):
            return own(run.source, run.output, params_file, shown, update)
        return run_dataset(run.recipe, run.source, run.output, params_file, shown, update)


def _shown(overrides: dict[str, Any] | None, output: str) -> dict[str, Any] | None:
    """Overrides as Prefect takes them: the values of a flow run may have half a megabyte in all."""
    if overrides is None or len(json.dumps(overrides, default=str)) < LARGEST_SHOWN:
        return overrides
    return {
        name: value if len(json.dumps(value, default=str)) < LONGEST_SHOWN else f"see {join_url(output, RUN_FILE)}"
        for name, value in list(overrides.items())[:MOST_SHOWN]
    }
