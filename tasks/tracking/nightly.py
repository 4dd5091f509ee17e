"""Nightly runs in MLflow: one run for each encoder on each dataset, one step a night."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gan_core.nightly.history import Entry
from gan_core.secrets import hide
from gan_core.storage.urls import base_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

from tasks.tracking.client import client_of, experiment_of, log_metrics, mlflow_errors, pages, user
from tasks.tracking.names import LONGEST_RUN_NAME, shorten

ENCODER, DATASET = "encoder.name", "dataset.source"
LONGEST_FINDING = 5000
Place = tuple[str, str]
"""An encoder and a dataset; of a run of version 0.1 nothing and its name."""


def track_nights(experiment: str, uri: str, nights: Sequence[Entry]) -> None:
    """Log nights to MLflow, one run for each encoder on each dataset, with the date (20261121) as the step.

    Those that were logged before are logged again where MLflow has no run of their encoder on their dataset any more.
    A night with findings tags its run: ``finding`` says what moved, or ``none``. Raises ``TrackingError``.
    """
    with mlflow_errors(uri):
        client = client_of(uri)
        experiment_id = experiment_of(client, uri, experiment)
        standing = _standing_runs(client, experiment_id)
        kept = {place for place in map(_place, nights) if _find(standing, place)}
        for night in nights:
            if not night.tracked or _place(night) not in kept:
                run_id = _find(standing, _place(night)) or _begin(client, experiment_id, standing, night)
                standing[_place(night)] = run_id
                _log_night(client, run_id, night)


def _place(night: Entry) -> Place:
    return night.encoder, hide(night.dataset)


def _shown(place: Place) -> str:
    return f"{place[0]} · {base_name(place[1])}"


def _find(standing: dict[Place, str], place: Place) -> str | None:
    return standing.get(place) or standing.get(("", _shown(place)))


def _begin(client: "MlflowClient", experiment_id: str, standing: dict[Place, str], night: Entry) -> str:
    place = _place(night)
    name = _shown(place) if _shown(place) not in map(_shown, standing) else " · ".join(place)
    made = client.create_run(experiment_id, run_name=shorten(name, LONGEST_RUN_NAME), tags={"mlflow.user": user()})
    return str(made.info.run_id)


def _log_night(client: "MlflowClient", run_id: str, night: Entry) -> None:
    values = {name: measured.value for name, measured in night.measured.items()}
    now = round(time.time() * 1000)  # of equal steps MLflow shows the later one, so that a night may be repeated
    log_metrics(client, run_id, values, now, step=int(night.date.replace("-", "")))
    said = "; ".join(str(finding) for finding in night.findings) or "none"
    if len(said) > LONGEST_FINDING:
        client.log_text(run_id, said, whole := f"findings-{night.date}.txt")
        said = shorten(said, LONGEST_FINDING, whole)
    place = dict(zip((ENCODER, DATASET), _place(night), strict=True))
    for key, value in ({"finding": said, "night": night.date, "encoder.version": night.version} | place).items():
        client.set_tag(run_id, key, value)
    client.set_terminated(run_id, "FINISHED", end_time=round(time.time() * 1000))


def _standing_runs(client: "MlflowClient", experiment_id: str) -> dict[Place, str]:
    """Return the ids of the runs of an experiment.

    Names are compared here: a filter of MLflow's can't have both kinds of quotes.
    """
    found: dict[Place, str] = {}
    for run in pages(client.search_runs, [experiment_id]):
        tags = run.data.tags
        place = (tags[ENCODER], tags[DATASET]) if ENCODER in tags and DATASET in tags else ("", str(run.info.run_name))
        found.setdefault(place, str(run.info.run_id))  # the newest one of a name comes first
    return found
