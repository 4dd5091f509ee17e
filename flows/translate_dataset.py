"""(align →) translate: one of pSp's image-to-image tasks over a dataset, by an encoder and a frozen generator."""

from typing import Any

from prefect import flow

from flows.naming import by_output, named
from flows.notify import HOOKS
from flows.run import run_recipe


@flow(name="translate-dataset", flow_run_name=named(by_output), **HOOKS)
def translate_dataset(
    source: str = "data/translation-sample",
    output: str = "runs/translations",
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
    update: bool = False,
) -> dict[str, float]:
    """Translate every shard of ``source`` into ``output`` by the task of ``translate``; return the mean scores.

    Finished shards are skipped by their receipts. Everything is checked before anything is written: ``UserError``.

    Args:
        source: The dataset: pictures, sketches, label maps or small pictures, in the column that `translate` names.
        output: The run's folder or URL; an existing run is continued.
        params_file: The parameter file; `translate` says what is done.
        overrides: Values that replace those of the file, such as {"translate.task": "sketch", "translate.made": false}.
        update: Redo what differs from the run in the output folder, instead of refusing.
    """
    return run_recipe("translate", source, output, params_file, overrides, update)
