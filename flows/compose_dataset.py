"""plan → compose: new pictures from the latents of a dataset, or from seeds."""

from typing import Any

from prefect import flow

from flows.naming import by_output, named
from flows.notify import HOOKS
from flows.run import run_recipe


@flow(name="compose-dataset", flow_run_name=named(by_output), **HOOKS)
def compose_dataset(
    source: str = "runs/demo",
    output: str = "runs/compositions",
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
    update: bool = False,
) -> dict[str, float]:
    """Draw the compositions of ``compose.plan`` from ``source`` into ``output``; return the mean scores.

    Finished shards are skipped by their receipts. Everything is checked before anything is written: ``UserError``.

    Args:
        source: A run that has encoded a dataset, a folder of shards with latents, or seeds:NUMBER.
        output: The run's folder or URL; an existing run is continued.
        params_file: The parameter file; the section compose holds the plan.
        overrides: Values that replace those of the file, such as {"compose.plan": [...]}.
        update: Redo what differs from the run in the output folder, instead of refusing.
    """
    return run_recipe("compose", source, output, params_file, overrides, update)
