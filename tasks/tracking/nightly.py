"""Nightly runs in MLflow: one run for each encoder on each dataset, one step a night."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from gan_core.nightly.history import Entry
from gan_core.storage.urls import base_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

from tasks.tracking.client import client_of, experiment_of, log_metrics, mlflow_errors


def track_nights(experiment: str, uri: str, nights: Sequence[Entry]) -> None:
    """Log nights to MLflow, one run for each encoder on each dataset, with the date (20261121) as the step.

    A night with findings tags its run: ``finding`` says what moved, or ``none``. Raises ``TrackingError``.
    """
    with mlflow_errors(uri):
        client = client_of(uri)
        experiment_id = experiment_of(client, uri, experiment)
        for night in nights:
            name = f"{night.encoder} · {base_name(night.dataset)}"
            run_id = _standing_run(client, experiment_id, name)
            values = {name: measured.value for name, measured in night.measured.items()}
            when = round(datetime.fromisoformat(f"{night.date}T12:00+00:00").timestamp() * 1000)
            log_metrics(client, run_id, values, when, step=int(night.date.replace("-", "")))
            said = "; ".join(str(finding) for finding in night.findings) or "none"
            for key, value in {"finding": said, "night": night.date, "encoder.version": night.version}.items():
                client.set_tag(run_id, key, value[:5000])
            client.set_terminated(run_id, "FINISHED", end_time=round(time.time() * 1000))


def _standing_run(client: "MlflowClient", experiment_id: str, name: str) -> str:
    found = client.search_runs([experiment_id], f"attributes.run_name = '{name}'", max_results=1)
    return str((found[0] if found else client.create_run(experiment_id, run_name=name)).info.run_id)
