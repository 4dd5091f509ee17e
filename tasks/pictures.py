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
SMALL_CELL = 64
"""Of a single row: MLflow shows 100 pixels of a run's description until it is opened."""
LETTER, LINE = 6, 12
"""Pixels of a letter and of a line of Pillow's default font."""
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
        if drawn := [those for line in lines if (those := images[line.shard, line.position])]:
            pictures[name] = drawn
    return pictures


def draw_grid(lines: Sequence[Mapping[str, str]], cell: int = CELL) -> Image.Image:
    """Draw each line's pictures (``data:`` addresses by name) in cells of ``cell`` pixels, under a header of names.

    The header has one line of text, or two if a name is wider than a cell.
    """
    names = {name: _wrap(name, cell // LETTER) for name in dict.fromkeys(name for line in lines for name in line)}
    header = 2 + LINE * max(map(len, names.values()), default=1)
    grid = Image.new("RGB", (cell * len(names), header + cell * len(lines)), "white")
    draw = ImageDraw.Draw(grid)
    for x, (name, words) in enumerate(names.items()):
        for number, text in enumerate(words):
            draw.text((x * cell + 2, 1 + number * LINE), text, fill="black")
        for y, line in enumerate(lines):
            if name in line:
                grid.paste(_shrink(line[name], cell), (x * cell, header + y * cell))
    return grid


def _wrap(name: str, letters: int) -> list[str]:
    """Return a name in one line of ``letters``, or in two; of one that is longer the strength stays."""
    if len(name) <= letters:
        return [name]
    subject, at, number = name.rpartition("@") if "@" in name else (name, "", "")
    if len(subject) <= letters:
        return [subject, at + number]
    room = 2 * letters - len(at + number)
    whole = (subject if len(subject) <= room else subject[: room - 1] + "…") + at + number
    return [whole[:letters], whole[letters:]]


def _shrink(url: str, side: int) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    scale = side / max(image.size)
    return image.convert("RGB").resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
