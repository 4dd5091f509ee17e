"""Tables and image grids for MLflow: the scores of all rows, and a few rows through all stages."""

import base64
import io
import math
from collections.abc import Mapping, Sequence

import pandas as pd
from PIL import Image, ImageDraw

from gan_core.pages.pictures import read_images
from gan_core.pages.rows import read_rows_of, read_scores
from gan_core.report.gating import judge
from gan_core.runs.run import SOURCE, Run

CELL = 96
HEADER = 14
PANEL = 3
"""Pictures side by side in a panel."""
FAILS = "fails"
"""The column with the gates that a row fails."""


def score_table(run: Run) -> pd.DataFrame:
    """Return one line for each row of the run: shard, key, status, reason and its scores (NaN where there are none).

    Of a run with gates the last column names those that a row fails.
    """
    parts = []
    for shard in run.shards:
        part = read_scores(run, shard)
        part.insert(0, "shard", shard)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    if run.params.gates:
        verdicts = judge(run)
        failed = ("; ".join(str(judged.gate) for judged in verdicts.failed_by(row)) for row in range(len(table)))
        table[FAILS] = list(failed)
    return table


def sample_pictures(run: Run, rows: int) -> dict[str, list[dict[str, str]]]:
    """Return the pictures (``data:`` addresses by name) of ``rows`` sample rows and of the ``rows`` worst ones."""
    found = read_rows_of(run)
    pictures = {}
    for name, lines in {"sample": found.sample[:rows], "worst": found.worst[:rows]}.items():
        images = read_images(run, lines, (SOURCE, *run.stages))
        if images:
            pictures[name] = [images[line.shard, line.position] for line in lines]
    return pictures


def draw_grid(lines: Sequence[Mapping[str, str]]) -> Image.Image:
    """Draw each line's pictures (``data:`` addresses by name) in cells of 96 pixels, under a header with the names."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    grid = Image.new("RGB", (CELL * len(names), HEADER + CELL * len(lines)), "white")
    draw = ImageDraw.Draw(grid)
    for x, name in enumerate(names):
        draw.text((x * CELL + 2, 1), name[:16], fill="black")
        for y, line in enumerate(lines):
            if name in line:
                grid.paste(_cell(line[name]), (x * CELL, HEADER + y * CELL))
    return grid


def draw_panel(line: Mapping[str, str]) -> Image.Image:
    """Draw the pictures of one row, three side by side, each under its name.

    MLflow shows pictures 219 pixels wide: of a whole grid nothing is to be seen there.
    """
    size = CELL * min(PANEL, len(line)), (HEADER + CELL) * math.ceil(len(line) / PANEL)
    panel = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(panel)
    for place, (name, url) in enumerate(line.items()):
        y, x = divmod(place, PANEL)
        draw.text((x * CELL + 2, y * (HEADER + CELL) + 1), name[:16], fill="black")
        panel.paste(_cell(url), (x * CELL, y * (HEADER + CELL) + HEADER))
    return panel


def _cell(url: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    scale = CELL / max(image.size)
    return image.convert("RGB").resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
