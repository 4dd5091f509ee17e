"""A comparison of encoders in MLflow: the parent of their runs."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gan_core.report.comparison import COSTS, Comparison, draw_comparison
from tasks.record import NOTE, read_tracked
from tasks.tracking.client import author, client_of, experiment_of, get_run, log_metrics, mlflow_errors
from tasks.tracking.names import LONGEST_RUN_NAME, shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient


def track_comparison(experiment: str, uri: str, name: str, comparison: Comparison, children: Mapping[str, str]) -> str:
    """Log a comparison as the parent of the runs in the folders ``children``; return its run's id.

    It holds the table (``comparison.json``), the chart and the rule. The numbers are those of the children, which also
    get what the comparison adds to them: cost and ``mean rank``. MLflow then draws one chart of all encoders for each
    number. Raises ``TrackingError``.
    """
    with mlflow_errors(uri):
        client = client_of(uri)
        tags = {"champion": comparison.champion, "rule": comparison.rule, NOTE: _describe(comparison)} | author()
        name = shorten(f"{name} · {time.strftime('%Y-%m-%d %H:%M', time.gmtime())}", LONGEST_RUN_NAME)
        run_id = client.create_run(experiment_of(client, uri, experiment), run_name=name, tags=tags).info.run_id
        rows = comparison.rows()
        client.log_table(run_id, {column: [row[column] for row in rows] for column in rows[0]}, "comparison.json")
        client.log_figure(run_id, draw_comparison(comparison), "comparison.png")
        for row in rows:
            _add_child(client, run_id, read_tracked(children[str(row["encoder"])]).get("run_id", ""), row)
        client.set_terminated(run_id, "FINISHED")
    return str(run_id)


def _describe(comparison: Comparison) -> str:
    """Return the comparison in Markdown, as MLflow shows it on the page of the run: a column for each encoder."""
    header, *lines = comparison.columns_of_texts()
    table = [header, ["---"] * len(header), *lines]
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    chart = "The chart is `comparison.png`, under Artifacts."
    return f"**{comparison.champion}** is the champion. {comparison.rule}\n\n{rows}\n\n{chart}"


def _add_child(client: "MlflowClient", parent: str, child: str, row: Mapping[str, str | float]) -> None:
    if get_run(client, child):
        added = {name: float(row[name]) for name in (*COSTS, "mean rank") if name in row}
        log_metrics(client, child, added, when=round(time.time() * 1000), step=0)
        client.set_tag(child, "mlflow.parentRunId", parent)
