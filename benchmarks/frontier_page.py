"""The page of the frontier, its chart, and its points in MLflow, from numbers that ``benchmarks.frontier`` stored."""

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims import page_with
from gan_core.training.study import Row

PAGE, CHART = Path("docs/frontier.md"), Path("docs/frontier.svg")
MEASURED, MISSING, JUDGED = "<!-- measured -->", "<!-- missing -->", "<!-- judged -->"
PICTURE = f"![Seconds a row against LPIPS, MSE, identity and what edits keep, for all methods]({CHART.name})"
COLUMNS = ("lpips", "mse", "identity", "move", "identity_edited", "identity_kept")
PANELS = {
    "lpips": "LPIPS (less is better)",
    "mse": "MSE (less is better)",
    "identity": "identity (more is better)",
    "move": "attribute move of edits (more is better)",
    "identity_edited": "identity after edits (more is better)",
    "identity_kept": "share of identity that edits keep (more is better)",
}
COLOURS = {"one pass": "#1f77b4", "network": "#2ca02c", "tuning": "#ff7f0e", "optimisation": "#9467bd"}
MARKS = {"one pass": "o", "network": "D", "tuning": "s", "optimisation": "^"}
OURS = "#d62728"
PLACES = [(sign * 5, up) for up in (-2, 3, -8, 9, -14, 15, -20, 21) for sign in (1, -1)]
"""Where a name may be beside its point, in points of print."""
LOGGED = ("seconds", "bytes", "rows", *COLUMNS)


def write_page(rows: Sequence[Row], found: Mapping[str, Any]) -> None:
    """Write the chart, and the tables into the page."""
    measured = [row for row in rows if "missing" not in row]
    draw_chart(measured, CHART)
    parts = {
        MEASURED: f"{PICTURE}\n\n{table_of(measured)}",
        MISSING: f"\n{missing_of(rows)}",
        JUDGED: f"\n{said_of(found)}",
    }
    PAGE.write_text(page_with(PAGE.read_text(), parts))


def table_of(measured: Sequence[Row]) -> str:
    """Return the numbers of all methods by seconds, in Markdown."""
    lines = [
        "| method | rows | seconds a row | LPIPS | MSE | identity | move | identity after edits | kept | bytes a row |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(measured, key=lambda row: row["seconds"]):
        cells = [f"{row[name]:.3g} ± {row[f'{name}_error']:.1g}" for name in COLUMNS]
        name = f"**{row['method']}**" if row["group"] == "ours" else row["method"]
        size = f"{row['bytes'] / 1e3:,.0f} k" if row["bytes"] >= 1e4 else f"{row['bytes'] / 1e3:.1f} k"
        lines.append(f"| {name} | {row['rows']} | {row['seconds']:.3g} | {' | '.join(cells)} | {size} |")
    return "\n".join(lines)


def missing_of(rows: Sequence[Row]) -> str:
    """Return what was not measured, and why or what trains it."""
    absent = [f"- {row['method']}: `{row['missing']}`" for row in rows if "missing" in row]
    return "\n".join(absent) or "All methods were measured."


def said_of(found: Mapping[str, Any]) -> str:
    """Return what RESULT says, in sentences."""
    dominated, worse = found["dominated"], found["edits_worse"]
    steps = [f"{alone} and {after:g}" for alone, after in found["steps_after_hypernetwork"].items()]
    lines = [
        f"- `area_ratio`: {found['area_ratio']:.3g}, the area under the curve of the best other method so far (LPIPS "
        "over the logarithm of seconds) over that under ours.",
        f"- `dominated`: {len(dominated)} methods on or above our curve"
        f" ({', '.join(f'`{name}`' for name in dominated) or 'none'}).",
        f"- `edits_worse`: {len(worse)} budgets whose edits move less, or keep less identity, than those of the best "
        f"encoder of one pass ({'; '.join(worse) or 'none'}).",
        f"- Steps to the same LPIPS, of tuning alone and after the hypernetwork: {', '.join(steps) or 'not measured'}.",
    ]
    return "\n".join(lines)


def draw_chart(measured: Sequence[Row], path: Path) -> None:
    """Draw seconds against each measure: points with errors, and budgets as a curve."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "frontier", "font.size": 9})
    figure, panels = pyplot.subplots(3, 2, figsize=(11, 13), layout="constrained")
    for panel, (key, title) in zip(panels.flat, PANELS.items(), strict=True):
        _draw_panel(panel, measured, key, title)
    panels[0, 0].legend(loc="best", fontsize=8)
    figure.draw_without_rendering()
    for panel, key in zip(panels.flat, PANELS, strict=True):
        _label(panel, measured, key)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _draw_panel(panel: Any, measured: Sequence[Row], key: str, title: str) -> None:
    for group, colour in COLOURS.items():
        rows = [row for row in measured if row["group"] == group]
        look: dict[str, Any] = {"fmt": MARKS[group], "ms": 4, "color": colour, "capsize": 2, "lw": 0.8, "label": group}
        panel.errorbar(*_values(rows, key), _errors(rows, key), **look)
    ours = sorted((row for row in measured if row["group"] == "ours"), key=lambda row: row["seconds"])
    panel.errorbar(*_values(ours, key), _errors(ours, key), fmt="*-", ms=7, color=OURS, capsize=2, lw=1.4, label="ours")
    panel.set_xscale("log")
    if key in ("lpips", "mse"):
        panel.set_yscale("log")
    panel.set_title(title, fontsize=10)
    panel.set_xlabel("seconds of a core a row")
    panel.grid(alpha=0.25, lw=0.5)


def _label(panel: Any, measured: Sequence[Row], key: str) -> None:
    """Name the points, each at the first place around it that hides no name or point, or else at the last."""
    from matplotlib.transforms import Bbox

    points = panel.transData.transform([(row["seconds"], row[key]) for row in measured])
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    frame = panel.get_window_extent()
    for row in sorted(measured, key=lambda row: row[key]):
        name = re.sub(r"hyperstyle, (\d+) of pti", r"h+\1", row["method"])
        name = re.sub(r"ours, | steps|pti, (?=\d)", "", name)
        for right, up in PLACES:
            side = "left" if right > 0 else "right"
            place: dict[str, Any] = {"xytext": (right, up), "textcoords": "offset points", "ha": side, "fontsize": 5.5}
            label = panel.annotate(name, (row["seconds"], row[key]), **place)
            box = label.get_window_extent()
            inside = frame.x0 < box.x0 and box.x1 < frame.x1
            if (inside and not any(box.overlaps(other) for other in taken)) or (right, up) == PLACES[-1]:
                break
            label.remove()
        taken.append(box)


def _values(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    return [row["seconds"] for row in rows], [row[key] for row in rows]


def _errors(rows: Sequence[Row], key: str) -> list[float]:
    return [row[f"{key}_error"] for row in rows]


def log_methods(rows: Sequence[Row]) -> None:
    """Log the methods to MLflow, each as a run with plain metrics, so that its charts show seconds against LPIPS."""
    from gan_core.params import load_params
    from tasks.tracking.address import tracking_uri
    from tasks.tracking.client import client_of, experiment_of, log_metrics, mlflow_errors, user
    from tasks.versions import git_sha

    track = load_params().track
    uri = tracking_uri(track)
    with mlflow_errors(uri):
        client = client_of(uri)
        experiment, tags = experiment_of(client, uri, track.experiment), {"git.sha": git_sha(), "mlflow.user": user()}
        parent = client.create_run(experiment, run_name="frontier", tags=tags).info.run_id
        for row in rows:
            if "missing" in row:
                continue
            about = tags | {"mlflow.parentRunId": parent, "group": row["group"]}
            run = client.create_run(experiment, run_name=row["method"], tags=about).info.run_id
            metrics = {name: float(row[name]) for name in LOGGED}
            log_metrics(client, run, metrics, when=round(time.time() * 1000), step=0)
            client.set_terminated(run, "FINISHED")
        if CHART.is_file():
            client.log_artifact(parent, str(CHART))
        client.set_terminated(parent, "FINISHED")
