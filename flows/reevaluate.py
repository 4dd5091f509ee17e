"""Measure every registered encoder on every published dataset each night and compare it with earlier nights."""

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled, Completed, Failed

from flows.edit_dataset import edit_dataset
from flows.ledger import hide_lost_tracebacks
from flows.naming import named
from flows.notify import HOOKS
from gan_core.errors import DataError, ParamsError
from gan_core.nightly.evidence import drop_rows, gather
from gan_core.nightly.history import (
    HISTORY_FILE,
    Entry,
    Finding,
    add_night,
    check_day,
    find_reference,
    read_history,
    write_history,
)
from gan_core.nightly.page import write_page
from gan_core.params import TrackParams, load_params
from gan_core.runs.run import is_run, load_run
from gan_core.secrets import hide, hide_all
from gan_core.stopping import STOPPED, stop_requested
from gan_core.storage.holding import hold_folder
from gan_core.storage.names import check_name, require_name
from gan_core.storage.urls import base_name, exists, join_url, open_fs, store_place
from tasks.tracking.address import tracking_uri
from tasks.tracking.client import TrackingError
from tasks.tracking.nightly import track_nights
from tasks.tracking.registry import Registered, registered_encoders

MOVED = "Moved"


def name_of_night(parameters: dict[str, Any]) -> str:
    """Name a night's flow run by its folder and its date."""
    return f"nightly {parameters['output']} {parameters['date'] or today(parameters['timezone'])}"


@flow(name="reevaluate-nightly", flow_run_name=named(name_of_night), **HOOKS)
def reevaluate_nightly(
    datasets: list[str],
    output: str = "runs/nightly",
    params_file: str = "params.yaml",
    overrides: dict[str, Any] | None = None,
    date: str = "",
    timezone: str = "UTC",
    accept: bool = False,
) -> State[list[Finding]]:
    """Measure every registered encoder on every dataset; what moved beyond its noise fails the run by name ``Moved``.

    The rows are compared with those of the last accepted night, or of the first. Shards and noise of earlier nights are
    used again where nothing has changed; speed is measured anew. Without MLflow the encoders of the night before are
    measured, and what could not be logged is logged by the next night. Only one night at a time works in ``output``;
    raises ``DataError`` for a second, and ``ParamsError`` for a date that is none.

    Args:
        datasets: The datasets, folders or URLs of shards, such as data/sample.
        output: Where the nights' runs, their history and the page with the time series are.
        params_file: The parameter file; its tuning, edits and gates are left out.
        overrides: Values that replace those of the file, such as {"measure.swd_images": 512}.
        date: The night's date, such as 2026-11-21; today's if empty. A night that is repeated replaces itself.
        timezone: The time zone whose date today is.
        accept: Take tonight's numbers as the new usual ones instead of raising what has moved.
    """
    hide_lost_tracebacks()
    if is_run(output):
        raise DataError(f"{output} holds a run: choose another folder for the nights")
    if not datasets:
        raise ParamsError("datasets is empty: name at least one, such as data/sample")
    night = night_of(date) if date else today(timezone)
    with hold_folder(output):
        return _measure_night(datasets, output, params_file, overrides, night, accept)


def _measure_night(
    datasets: list[str], output: str, params_file: str, overrides: dict[str, Any] | None, night: str, accept: bool
) -> State[list[Finding]]:
    track, history = load_params(params_file, overrides).track, read_history(output)
    encoders = list(encoders_of(track, history))
    places: list[tuple[str, Registered, str]] = []
    for dataset in spelled(datasets, history):
        taken = {place for _, _, place in places}
        places += [(dataset, encoder, place_of(output, dataset, encoder.name, taken)) for encoder in encoders]
    if not history and not any(is_run(place) for _, _, place in places):
        write_history(output, history)  # runs here are the nights' from now on, also if the first one is cut off
    ours = exists(join_url(output, HISTORY_FILE))
    states = [
        measure(encoder, dataset, place, params_file, overrides, night, reference, ours, return_state=True)
        for dataset, encoder, place in places
        for reference in [find_reference(history, (encoder.name, dataset), night)]
        if not stop_requested()
    ]
    if stop_requested():
        return Cancelled(message=STOPPED)
    tonight: list[Entry] = [state.result() for state in states if state.is_completed()]
    history, findings = add_night(history, [entry.model_copy(update={"accepted": accept}) for entry in tonight])
    history = log_nights(track, history)
    write_history(output, history)
    drop_old_rows(output, history, tonight)
    broken = [
        f"not measured: {hide_all(state.message or str(state.name))}" for state in states if not state.is_completed()
    ]
    if history:
        show_night(history, night, write_page(output, history, night, broken), broken)
    return conclude(len(tonight), [] if accept else findings, broken)


def conclude(measured: int, findings: list[Finding], broken: Sequence[str]) -> State[list[Finding]]:
    """Return how the night ends: something moved, something could not be measured, or all is as usual."""
    said = [*map(str, findings), *broken]
    if said:
        return Failed(name=MOVED if findings else "Incomplete", message="; ".join(said), data=findings)
    return Completed(message=f"{measured} measured, nothing has moved", data=findings)


def name_of_measuring(parameters: dict[str, Any]) -> str:
    """Name the task run that measures an encoder by the encoder and the dataset."""
    return f"{parameters['encoder'].name} on {hide(parameters['dataset'])}"


@task(name="measure", task_run_name=name_of_measuring, persist_result=False)  # type: ignore[arg-type]
def measure(
    encoder: Registered,
    dataset: str,
    output: str,
    params_file: str,
    overrides: dict[str, Any] | None,
    night: str,
    reference: str = "",
    update: bool = False,
) -> Entry:
    """Run one encoder over one dataset, reusing what is there, and return the night's numbers.

    ``reference`` is the digest of the rows that they are compared with. Without ``update`` a run in ``output`` that
    differs is not redone.
    """
    chosen = {"models.encoder": encoder.path, "encode.encoder": encoder.encoder}
    left_out = {"tune.enabled": False, "edits": [], "gates": []}
    try:
        edit_dataset(dataset, output, params_file, (overrides or {}) | chosen | left_out, update=update)
    except CancelledRun as cancelled:
        return cast(Entry, Cancelled(message=str(cancelled)))
    run = load_run(output)
    sha256 = run.identities["encode"]["encoder_sha256"]
    if sha256 != encoder.sha256:
        raise DataError(
            f"{encoder.path} is not what was registered as {encoder.name} {encoder.version}: `dvc checkout`"
        )
    evidence = gather(run, reference)
    told = ", ".join(f"{name} {number.value:.4g}" for name, number in evidence.measured.items())
    get_run_logger().info("%s", told)
    return Entry(
        date=night,
        encoder=encoder.name,
        dataset=dataset,
        version=encoder.version,
        path=f"{encoder.encoder}:{encoder.path}",
        sha256=sha256,
        measured=evidence.measured,
        omitted=evidence.omitted,
        rows=evidence.rows,
        reference=evidence.reference,
    )


def place_of(output: str, dataset: str, encoder: str, taken: Collection[str] = ()) -> str:
    """Return the folder of the run of an encoder over a dataset; ``DataError`` for a dataset that leads elsewhere.

    It is named like the dataset, with a hash of the whole address where another dataset of that name was there first
    or has that place tonight (``taken``);
    the folder in it like the encoder, or with a hash of its name where no folder can be called so.
    """
    name = require_name(base_name(dataset), "a dataset's name")
    try:
        encoder = check_name(encoder)
    except ValueError:
        encoder = f"encoder-{sha256(encoder.encode()).hexdigest()[:16]}"
    place = join_url(output, name, encoder)
    with suppress(DataError):  # what is no run, or a damaged one, is told when the dataset is measured
        if place in taken or load_run(place).source != dataset:
            return join_url(output, f"{name}-{sha256(dataset.encode()).hexdigest()[:8]}", encoder)
    return place


def drop_old_rows(output: str, history: list[Entry], tonight: list[Entry]) -> None:
    """Remove the kept rows that nothing is compared with any more; tonight's stay, a repeated night may need them."""
    newest = max((entry.date for entry in history), default="")
    for entry in tonight:
        needed = {entry.rows, find_reference(history, entry.series, newest)}
        drop_rows(place_of(output, entry.dataset, entry.encoder), needed)


def encoders_of(track: TrackParams, history: list[Entry]) -> list[Registered]:
    """Return the registered encoders, without MLflow those of the last night; raises ``UserError`` without any."""
    try:
        found = registered_encoders(tracking_uri(track))
    except TrackingError as error:
        get_run_logger().warning("%s; the encoders of the last night are measured", error)
        last = max((entry.date for entry in history), default="")
        found = sorted({_registered(entry) for entry in history if entry.date == last})
    if not found:
        raise ParamsError("no encoder is registered: `edit-dataset register data/models/psp.safetensors`")
    return found


def _registered(entry: Entry) -> Registered:
    architecture, _, path = entry.path.partition(":")
    return Registered(entry.encoder, entry.version, architecture, path, entry.sha256)


def log_nights(track: TrackParams, history: list[Entry]) -> list[Entry]:
    """Log what MLflow doesn't have; return the history with that noted. If it can't be reached, there is a warning."""
    try:
        track_nights(f"{track.experiment}-nightly", tracking_uri(track), history)
    except TrackingError as error:
        get_run_logger().warning("%s; the next night logs this one too", error)
        return history
    return [entry.model_copy(update={"tracked": True}) for entry in history]


def show_night(history: list[Entry], night: str, page: str, broken: Sequence[str]) -> None:
    """Put tonight's numbers, findings and what was not measured into Prefect's artifacts."""
    tonight = [entry for entry in history if entry.date == night]
    rows = [
        {
            "encoder": e.encoder,
            "dataset": hide(e.dataset),
            "metric": name,
            "value": f"{m.value:.4g}",
            "noise": f"{m.noise:.2g}",
        }
        for e in tonight
        for name, m in e.measured.items()
    ]
    create_table_artifact(rows, key="nightly-numbers", description=f"Night of {night}")
    said = [*(str(finding) for entry in tonight for finding in entry.findings), *broken]
    found = [f"- {line}" for line in said] or ["Nothing has moved."]
    text = "\n".join([f"## Night of {night}", *found, "", f"Time series: `{open_fs(page)[1]}`"])
    create_markdown_artifact(text, key="nightly-findings", description=f"What moved in the night of {night}")


def spelled(datasets: list[str], history: list[Entry]) -> list[str]:
    """Return each dataset once, as earlier nights wrote it where they have measured it under another spelling."""
    known = {store_place(entry.dataset): entry.dataset for entry in history}
    tidy = [dataset.rstrip("/") if "://" in dataset else os.path.normpath(dataset) for dataset in datasets]
    found = {store_place(dataset): dataset for dataset in tidy}
    return [known.get(place, dataset) for place, dataset in found.items()]


def night_of(date: str) -> str:
    """Return the date of a night; raises ``ParamsError`` for what is none."""
    try:
        return check_day(date)
    except ValueError as error:
        raise ParamsError(f"date {date!r} ({error}): write one such as 2026-11-21") from None


def today(timezone: str) -> str:
    """Return today's date in a time zone; raises ``ParamsError`` for an unknown one."""
    try:
        return datetime.now(ZoneInfo(timezone)).date().isoformat()
    except (ZoneInfoNotFoundError, ValueError):
        raise ParamsError(f"timezone {timezone!r} is not known: write one such as Europe/Berlin") from None
