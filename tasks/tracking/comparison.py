"""A comparison of encoders in MLflow: the parent of their runs."""

import time
from collections.abc import Mapping

from gan_core.report.comparison import RULE, Comparison, draw_comparison
from tasks.record import read_tracked
from tasks.tracking.client import client_of, experiment_of, get_run, log_metrics, mlflow_errors
from tasks.tracking.names import LONGEST_RUN_NAME, shorten
from tasks.versions import git_sha


def track_comparison(experiment: str, uri: str, name: str, comparison: Comparison, children: Mapping[str, str]) -> str:
    """Log a comparison as the parent of the runs in the folders ``children``; return its run's id.

    It holds the table (``comparison.json``), the chart, each encoder's numbers as ``<column>/<encoder>``, and the rule.
    Raises ``TrackingError``.
    """
    with mlflow_errors(uri):
        client = client_of(uri)
        tags = {"champion": comparison.champion, "rule": RULE, "git.sha": git_sha()}
        experiment_id, name = experiment_of(client, uri, experiment), shorten(name, LONGEST_RUN_NAME)
        run_id = client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
        values = {f"{c}/{n}": v for n, row in comparison.encoders.items() for c, v in row.items()}
        log_metrics(client, run_id, values, when=round(time.time() * 1000), step=0)
        rows = comparison.rows()
        client.log_table(run_id, {column: [row[column] for row in rows] for column in rows[0]}, "comparison.json")
        client.log_figure(run_id, draw_comparison(comparison), "comparison.png")
        for child in (read_tracked(folder).get("run_id", "") for folder in children.values()):
            if get_run(client, child):
                client.set_tag(child, "mlflow.parentRunId", run_id)
        client.set_terminated(run_id, "FINISHED")
    return str(run_id)
