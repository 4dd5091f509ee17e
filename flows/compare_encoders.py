"""Compare encoders on one dataset: one run each under one parent, a table, a chart, and a champion."""

import json
from typing import Any, cast

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled

from flows.edit_dataset import edit_dataset
from flows.ledger import hide_lost_tracebacks
from flows.naming import by_output, named
from flows.notify import HOOKS
from gan_core.encoders.base import ENCODERS
from gan_core.errors import DataError, ParamsError
from gan_core.params import Params, load_params
from gan_core.report.comparison import ROWS, Comparison, Numbers, numbers_of
from gan_core.report.encoder_cost import encoder_cost
from gan_core.runs.run import is_run
from gan_core.runs.summary import find_summary
from gan_core.storage.atomic import write_bytes
from gan_core.storage.holding import hold_folder
from gan_core.storage.names import require_name
from gan_core.storage.urls import base_name, exists, join_url
from tasks.tracking.address import tracking_uri
from tasks.tracking.client import TrackingError
from tasks.tracking.comparison import track_comparison
from tasks.tracking.registry import register_checkpoint, set_champion

COMPARISON = "comparison.json"


@flow(name="compare-encoders", flow_run_name=named(by_output), **HOOKS)
def compare_encoders(
    source: str = "data/sample",
    output: str = "runs/encoders",
    variants: list[str] | None = None,
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
) -> dict[str, Numbers]:
    """Run the pipeline once per variant, without tuning; register the encoders and name the best ``champion``.

    A single variant is registered, and the champion stays. An encoder of which no row could be measured is left out.
    So are gates. The numbers are also written to ``OUTPUT/comparison.json``; runs below a folder without one, if they
    differ, are somebody else's and not redone. If MLflow can't be reached, there is a warning.

    Args:
        source: The dataset: a folder or fsspec URL of Parquet shards.
        output: The folder of the runs, one below it for each variant.
        variants: Names of encoders, such as e4e; all whose checkpoints are there if none is named.
        params_file: The parameter file.
        overrides: Values that replace those of the file, such as {"measure.swd_images": 512}.
    """
    hide_lost_tracebacks()
    if is_run(output):
        raise DataError(f"{output} holds a run: choose another folder for the runs of the encoders")
    params = load_params(params_file, overrides)
    paths = {variant: params.encoder_path(variant) for variant in variants or trained_variants(params)}
    places = {variant: join_url(output, require_name(variant, "an encoder's name")) for variant in paths}
    numbers, table = {}, join_url(output, COMPARISON)
    with hold_folder(output):
        if not any(map(is_run, places.values())) and not exists(table):
            write_bytes(table, b"{}\n")  # runs here are the comparison's from now on, also if it is cut off
        ours = exists(table)
        for variant, path in paths.items():
            chosen = {"encode.encoder": variant, "models.encoder": path, "tune.enabled": False, "gates": []}
            more = (overrides or {}) | chosen | {"measure.swd_edits": True}
            try:
                metrics = edit_dataset(source, places[variant], params_file, more, update=ours)
            except CancelledRun as cancelled:
                return cast(dict[str, Numbers], Cancelled(message=str(cancelled)))
            numbers[variant] = numbers_of(metrics, measure_cost(path, params.run.device, params.models.generator))
            numbers[variant][ROWS] = find_summary(places[variant])["rows"].get("ok", 0)
        comparison = Comparison.of(numbers)
        write_comparison(output, comparison)
    log_comparison(params, base_name(source), output, comparison, paths)
    return numbers


def trained_variants(params: Params) -> list[str]:
    """Return the variants whose checkpoints are there; raises ``ParamsError`` if there is none."""
    found = [variant for variant in ENCODERS.names() if exists(params.encoder_path(variant))]
    if not found:
        raise ParamsError("no encoder is trained: `dvc pull` or `dvc repro train-encoder`")
    return found


@task(name="cost", task_run_name="cost of {path}", persist_result=False)
def measure_cost(path: str, device: str, generator: str) -> dict[str, float]:
    """Measure parameters, speed and memory, where ``run.device`` says."""
    return encoder_cost(path, device, generator)


def write_comparison(output: str, comparison: Comparison) -> None:
    """Write the table and the champion to ``OUTPUT/comparison.json`` and to Prefect's artifacts."""
    written = {"champion": comparison.champion, "rule": comparison.rule, "encoders": comparison.rows()}
    write_bytes(join_url(output, COMPARISON), (json.dumps(written, indent=1) + "\n").encode())
    create_table_artifact(
        comparison.texts(), key="encoders", description=f"Champion: {comparison.champion}. {comparison.rule}"
    )


def log_comparison(params: Params, dataset: str, output: str, comparison: Comparison, paths: dict[str, str]) -> None:
    """Register the encoders, give the best its alias, and put table and chart into a parent run of their runs."""
    children, experiment = {variant: join_url(output, variant) for variant in paths}, params.track.experiment
    try:
        uri = tracking_uri(params.track)
        compared = {variant: paths[variant] for variant in comparison.encoders}
        track_comparison(experiment, uri, f"encoders · {dataset}", comparison, children)
        versions = {v: register_checkpoint(v, path, uri, experiment=experiment) for v, path in compared.items()}
        if len(compared) == 1 or not comparison.judged:
            why = "one encoder alone is no comparison" if len(compared) == 1 else "nothing was measured of the encoders"
            get_run_logger().info("%s: encode.encoder=champion stays as it is", why)
            return
        set_champion(versions[comparison.champion], uri)
        get_run_logger().info("the best, %s, is encode.encoder=champion now", comparison.champion)
    except TrackingError as error:
        written = join_url(output, COMPARISON)
        get_run_logger().warning("%s; no encoder was made champion, the numbers are in %s", error, written)
