"""align → encode → tune → edit → measure: a sharded image dataset, edited and measured."""

from typing import Any

from prefect import flow

from flows.form import DeviceChoice, EncoderChoice, LandmarksChoice, TuningChoice, with_choices
from flows.naming import by_output, named
from flows.notify import HOOKS
from flows.run import run_recipe


@flow(name="edit-dataset", flow_run_name=named(by_output), **HOOKS)
def edit_dataset(
    source: str = "data/sample",
    output: str = "runs/demo",
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
    update: bool = False,
    encoder: EncoderChoice = "",
    landmarks: LandmarksChoice = "",
    tuning: TuningChoice = "",
    device: DeviceChoice = "",
) -> dict[str, float]:
    """Align, encode, tune, edit and measure every shard of ``source`` into ``output``; return the metrics.

    Finished shards are skipped by their receipts. Everything is checked before anything is written: ``UserError``.

    Args:
        source: The dataset: a folder or fsspec URL of Parquet shards.
        output: The run's folder or URL; an existing run is continued.
        params_file: The parameter file, one section a stage.
        overrides: Values that replace those of the file, such as {"tune.steps": 30, "encode.encoder": "e4e"}.
        update: Redo what differs from the run in the output folder, instead of refusing.
        encoder: The encoder, with its own checkpoint; as the parameter file says if empty.
        landmarks: How faces are found; as the parameter file says if empty.
        tuning: Off, or how the generator is refined for each picture; as the parameter file says if empty.
        device: Where networks compute; as the parameter file says if empty.
    """
    chosen = with_choices(overrides, encoder, landmarks, tuning, device)
    return run_recipe("edit", source, output, params_file, chosen, update)
