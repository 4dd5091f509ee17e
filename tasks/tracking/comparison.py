"""A comparison of encoders in MLflow: the parent of their runs."""

import json
import time
from collections.abc import Mapping

from gan_core.report.comparison import RULE, Comparison, draw_comparison
from gan_core.storage.urls import exists, join_url, read_bytes
from tasks.tracking.client import client_of, experiment_of, log_metrics, mlflow_errors
from tasks.tracking.runs import TRACKED
from tasks.versions import git_sha


def track_comparison(experiment: str, uri: str, name: str, comparison: Comparison, children: Mapping[str, str]) -> str:
    """Log a comparison as the parent of the runs in the folders ``children``; return its run's id.

    It holds the table (``comparison.json``), the chart, each encoder's numbers as ``<column>/<encoder>``, and the rule.
    Raises ``TrackingError``.
    """
    with mlflow_errors(uri):
        client = client_of(uri)
        tags = {"champion": comparison.champion, "rule": RULE, "git.sha": git_sha()}
        run_id = client.create_run(experiment_of(client, uri, experiment), run_name=name, tags=tags).info.run_id
        values = {f"{c}/{n}".replace(" ", "_"): v for n, row in comparison.encoders.items() for c, v in row.items()}
        log_metrics(client, run_id, values, when=round(time.time() * 1000), step=0)
        rows = comparison.rows()
        client.log_table(run_id, {column: [row[column] for row in rows] for column in rows[0]}, "comparison.json")
        client.log_figure(run_id, draw_comparison(comparison), "comparison.png")
        for folder in children.values():
            if exists(path := join_url(folder, TRACKED)):
                client.set_tag(json.loads(read_bytes(path))["run_id"], "mlflow.parentRunId", run_id)
        client.set_terminated(run_id, "FINISHED")
    return str(run_id)
