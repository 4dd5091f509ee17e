"""Tables and image grids for MLflow: the scores of all rows, and a few rows through all stages."""

import base64
import io
from collections.abc import Mapping, Sequence

import pandas as pd
from PIL import Image, ImageDraw

from gan_core.pages.pictures import read_images
from gan_core.pages.rows import read_rows_of, read_scores
from gan_core.report.gating import judge
from gan_core.runs.run import SOURCE, Run

CELL = 96
HEADER = 14
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


def picture_grids(run: Run, rows: int) -> dict[str, Image.Image]:
    """Draw ``rows`` sample rows and the ``rows`` worst ones: source | aligned | encoded | tuned | edits."""
    found = read_rows_of(run)
    grids = {}
    for name, lines in {"sample": found.sample[:rows], "worst": found.worst[:rows]}.items():
        images = read_images(run, lines, (SOURCE, *run.stages))
        if images:
            grids[name] = draw_grid([images[line.shard, line.position] for line in lines])
    return grids


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


def _cell(url: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    scale = CELL / max(image.size)
    return image.convert("RGB").resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
