"""The part of a page about gates: what each keeps over the range of its limit, and the pictures at its border."""

from collections.abc import Callable

import numpy as np

from gan_core.metrics.base import ALIGNED
from gan_core.metrics.names import Score
from gan_core.pages.page import (
    Block,
    Caption,
    Cell,
    Cells,
    Column,
    Picture,
    Plot,
    Plots,
    Section,
    Strip,
    Strips,
    Table,
    Text,
    Tile,
)
from gan_core.pages.pictures import Images, read_images
from gan_core.pages.plots import kept_curve
from gan_core.pages.rows import Line, explainer
from gan_core.report.gating import Judged, Verdicts
from gan_core.runs.run import Run
from gan_core.storage.shards import open_shard

BORDER = 3
"""Rows that are shown on each side of a limit."""
SHOWN_ALONE = 3
"""Images that are shown of a row whose score names none of them."""
LONGEST_KEY = 40
"""Letters of a key that stand below a picture without breaking the line twice."""


def gates_tile(verdicts: Verdicts) -> Tile:
    """Say how many rows pass."""
    passed, failed = int(verdicts.passed.sum()), int((verdicts.failures > 0).sum())
    return Tile("Pass the gates", f"{passed:,}", f"{failed:,} finished rows fail a gate; publish leaves them out.")


def gates_section(run: Run, verdicts: Verdicts) -> Section:
    """Show a table, a curve and the pictures at the border of each gate."""
    passed, finished = int(verdicts.passed.sum()), int(verdicts.ok.sum())
    said = (
        f"{passed:,} of {finished:,} finished rows pass all gates. edit-dataset publish takes only these; the others "
        "stay in the run, and gates.parquet names the gates that each row fails."
    )
    curves = Text(
        "The curves show the share of the judged rows that each limit would keep; the line is the chosen one."
    )
    explain = explainer(run)
    plots = Plots([_plot(judged, explain(judged.columns[0])) for judged in verdicts.gates])
    borders = [block for judged in verdicts.gates for block in _border(run, verdicts, judged, explain)]
    return Section("Gates", "gates", [Text(said), _table(verdicts), curves, plots, *borders])


def _table(verdicts: Verdicts) -> Table:
    heads = ["limit", "judged", "fail", "fail this one only", "not measured"]
    return Table([Column("gate", number=False), *map(Column, heads)], [_row(verdicts, j) for j in verdicts.gates])


def _row(verdicts: Verdicts, judged: Judged) -> Cells:
    limit = "" if judged.limit is None else f"{judged.limit:.4g}"
    counts = (judged.about, judged.failed, verdicts.alone(judged), judged.missing)
    return [Cell(str(judged.gate), _scores(judged)), limit, *(f"{np.sum(count):,}" for count in counts)]


def _scores(judged: Judged) -> str:
    """What a short name stands for."""
    return "" if judged.columns == (judged.gate.score,) else ", ".join(judged.columns)


def _plot(judged: Judged, score: Score) -> Plot:
    values, title = judged.values[judged.about], str(judged.gate)
    kept = len(values) - int(judged.failed.sum())
    share = f" ({kept / len(values):.0%})" if len(values) else ""
    curve = kept_curve(values, judged.limit, judged.gate.higher, score.meaning, title)
    note = "" if curve else "No row has this score."
    return Plot(title, curve, value=f"keeps {kept:,} of {len(values):,} rows{share}", note=note)


def _border(run: Run, verdicts: Verdicts, judged: Judged, explain: Callable[[str], Score]) -> list[Block]:
    inside, outside = nearest_rows(judged)
    lines = {number: _line(run, verdicts, number) for number in (*inside, *outside)}
    images = read_images(run, lines.values(), run.stages)
    strips = []
    for side, rows in (("the last that pass", inside), ("the first that fail", outside)):
        pictures = [p for n in rows for p in _pictures(judged, n, lines[n], images, explain)]
        strips += [Strip(f"{judged.gate}: {side}", pictures)] if pictures else []
    return [Strips(strips)] if strips else []


def nearest_rows(judged: Judged, most: int = BORDER) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the measured rows that pass and that fail by the least, nearest to the limit first."""
    if judged.limit is None:
        return np.empty(0, int), np.empty(0, int)
    distance = np.abs(judged.values.astype(np.float64) - judged.limit)
    sides = (judged.about & ~judged.failed, judged.failed & ~judged.missing)
    inside, outside = (np.flatnonzero(side) for side in sides)
    return _nearest(inside, distance, most), _nearest(outside, distance, most)


def _nearest(rows: np.ndarray, distance: np.ndarray, most: int) -> np.ndarray:
    nearest: np.ndarray = rows[np.argsort(distance[rows], kind="stable")][:most]
    return nearest


def _line(run: Run, verdicts: Verdicts, number: int) -> Line:
    """The row with its key, which is read from its shard."""
    shard, position = verdicts.place(number)
    with open_shard(run.shard(run.stages[-1], shard)) as file:
        key = str(file.read(columns=["key"])["key"][position].as_py())
    return Line(shard, position, key, "ok", "", run.stages[-1], {})


def _pictures(
    judged: Judged, number: int, line: Line, images: Images, explain: Callable[[str], Score]
) -> list[Picture]:
    """The judged picture of a row beside the aligned one, or what there is of the row; its key is below the first."""
    score = explain(judged.columns[judged.which[number]])
    caption = Caption(score.meaning.label, f"{judged.values[number]:.4g}", score.name)
    found = images[line.shard, line.position]
    names = [name for name in (ALIGNED, score.picture) if name in found]
    names = names if score.picture in found else list(found)[:SHOWN_ALONE]
    last = len(names) - 1
    return [
        Picture(
            _short(line.key) if i == 0 else name, found[name], f"{name} image of {line.key}", [caption] * (i == last)
        )
        for i, name in enumerate(names)
    ]


def _short(key: str) -> str:
    """Return a key, or of a long one its end, which tells rows apart more often than its beginning."""
    return key if len(key) <= LONGEST_KEY else f"…{key[1 - LONGEST_KEY :]}"
