"""What people look at in MLflow: the table of all rows, and grids of a few of them through all stages."""

import pandas as pd
import pyarrow as pa
from PIL import Image, ImageDraw

from gan_core.data.images import decode_image
from gan_core.data.shards import BASE_NAMES, IMAGE, open_shard, read_rows
from gan_core.data.urls import join_url
from gan_core.runs import Job

CELL = 96
HEADER = 14


def score_table(job: Job) -> pd.DataFrame:
    """Return one line for each row of the run: shard, key, status, reason and its scores (NaN where there are none)."""
    parts = []
    for shard in job.shards:
        with open_shard(join_url(job.output, job.stages[-1], shard)) as file:
            scores = [field.name for field in file.schema_arrow if pa.types.is_floating(field.type)]
            part = file.read(columns=[*BASE_NAMES, *scores]).to_pandas()
        part.insert(0, "shard", shard)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def worst_first(table: pd.DataFrame) -> pd.DataFrame:
    """Return the finished rows, those first whose identity the inversion kept least; without that score, unsorted."""
    fine = table[table["status"] == "ok"]
    scores = [name for name in fine.columns if name.startswith("identity") and name.endswith(("/tuned", "/encoded"))]
    return fine.sort_values(scores[-1]) if scores else fine


def picture_grid(job: Job, rows: pd.DataFrame) -> Image.Image | None:
    """Draw each row as a line of pictures: source | aligned | encoded | tuned | edits; None without rows.

    ``rows`` are lines of ``score_table``. Cells are 96 pixels wide, under a header with the names of the columns.
    """
    found: dict[str, dict[str, bytes]] = {}
    for shard, group in rows.groupby("shard"):
        found |= _pictures(job, str(shard), set(group["key"]))
    lines = [found[key] for key in rows["key"]]
    if not lines:
        return None
    grid = Image.new("RGB", (CELL * len(lines[0]), HEADER + CELL * len(lines)), "white")
    draw = ImageDraw.Draw(grid)
    for x, name in enumerate(lines[0]):
        draw.text((x * CELL + 2, 1), name[:16], fill="black")
    for y, line in enumerate(lines):
        for x, picture in enumerate(line.values()):
            grid.paste(_cell(picture, job.params.align.max_pixels), (x * CELL, HEADER + y * CELL))
    return grid


def _pictures(job: Job, shard: str, keys: set[str]) -> dict[str, dict[str, bytes]]:
    pictures: dict[str, dict[str, bytes]] = {key: {} for key in keys}
    for stage in ("source", *job.stages):
        url = join_url(job.source, shard) if stage == "source" else join_url(job.output, stage, shard)
        with open_shard(url) as file:
            columns = [field.name for field in file.schema_arrow if field.type == IMAGE]
        for row in (row for rows in read_rows(url, ["key", *columns]) for row in rows if row["key"] in keys):
            for name in columns:
                pictures[row["key"]]["source" if stage == "source" else name] = row[name]["bytes"]
    return pictures


def _cell(picture: bytes, max_pixels: int) -> Image.Image:
    image = decode_image(picture, max_pixels)
    scale = CELL / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
