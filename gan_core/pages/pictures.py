"""The images of the rows that are shown, small enough for a page, as ``data:`` addresses."""

import base64
import io
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from gan_core.errors import DataError
from gan_core.pages.rows import Line
from gan_core.runs.run import SOURCE, Run
from gan_core.storage.images import ImageError, decode_image
from gan_core.storage.shards import holds_images, open_shard, to_rows

LARGEST_SIDE = 256
LOSSLESS_SIDE = 128
NAMES = {("align", "image"): "aligned", ("encode", "reconstruction"): "encoded"}

Images = dict[tuple[str, int], dict[str, str]]
"""``data:`` addresses by name, by the shard and the position of a row."""
Place = tuple[str, str]
"""A stage and a column of it."""


def image_name(stage: str, column: str) -> str:
    """Return what the image in a stage's column is called: like the column, or like the stage if that is ``image``."""
    return NAMES.get((stage, column), stage if column == "image" else column)


def name_images(places: Iterable[Place]) -> dict[Place, str]:
    """Return the names of images by where they are, each another one.

    The first stage that has one of a name keeps it, the source only if no stage has, and a column that is called like
    its stage only if the stage has no ``image``. The others get their stage after it: ``tuned (source)``.
    """
    names: dict[str, Place] = {}
    for place in sorted(places, key=lambda place: (place[0] == SOURCE, place[0] == place[1])):
        name = image_name(*place)
        while name in names:
            name += f" ({place[0]})"
        names[name] = place
    return {place: name for name, place in names.items()}


def read_images(run: Run, lines: Iterable[Line], stages: Iterable[str]) -> Images:
    """Return each line's images by name, in the order of stages and columns: source, aligned, encoded, tuned, edits.

    Only the row groups that hold a line are read. An image that is missing or can't be decoded is left out.
    """
    positions: dict[str, set[int]] = {}
    for line in lines:
        positions.setdefault(line.shard, set()).add(line.position)
    images: dict[tuple[str, int], dict[Place, str | None]]
    images = {(shard, i): {} for shard, found in positions.items() for i in found}
    for shard, wanted in positions.items():
        for stage in stages:
            for position, column, data in _read_images(run, stage, shard, wanted):
                images[shard, position][stage, column] = to_data_url(data, run.params.align.max_pixels)
    return {row: _by_name(found) for row, found in images.items()}


def _by_name(found: dict[Place, str | None]) -> dict[str, str]:
    names = name_images(found)
    return {names[place]: url for place, url in found.items() if url}


def to_data_url(
    data: bytes | None, max_pixels: int, largest: int = LARGEST_SIDE, lossless: int = LOSSLESS_SIDE
) -> str | None:
    """Decode, shrink and encode again (PNG when small, else JPEG), so that nothing else of a file reaches the page."""
    try:
        image = decode_image(data, max_pixels)
    except ImageError:
        return None
    image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if max(image.size) <= lossless:
        kind = "png"
        image.save(buffer, "PNG", compress_level=3)
    else:
        kind = "jpeg"
        image.save(buffer, "JPEG", quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _read_images(run: Run, stage: str, shard: str, wanted: set[int]) -> Iterator[tuple[int, str, bytes | None]]:
    if stage == SOURCE and not (wanted := kept_in_source(run, shard, wanted)):
        return
    with open_shard(run.shard(stage, shard)) as file:
        columns = [f.name for f in file.schema_arrow if holds_images(f.type)]
        for group, start, inside in row_groups(file, wanted) if columns else ():
            table = file.read_row_group(group, columns=columns).take(np.array(inside) - start)
            for position, row in zip(inside, to_rows(table.combine_chunks().to_batches()[0]), strict=True):
                for name in columns:
                    yield position, name, (row[name] or {}).get("bytes")


def kept_in_source(run: Run, shard: str, wanted: set[int]) -> set[int]:
    """Return those of the positions at which the source still has the row, by its key, that the run has there.

    A dataset may have been moved, damaged or made anew since; its run can still be looked at, without its pictures.
    """
    try:
        theirs = _read_keys(run.shard(SOURCE, shard), wanted)
    except DataError:
        return set()
    ours = _read_keys(run.shard(run.stages[0], shard), wanted)
    return {position for position, key in theirs.items() if ours.get(position) == key}


def _read_keys(url: str, wanted: set[int]) -> dict[int, str]:
    with open_shard(url) as file:
        if "key" not in file.schema_arrow.names:
            return {}
        return {
            position: keys[position - start]
            for group, start, inside in row_groups(file, wanted)
            for keys in [file.read_row_group(group, columns=["key"])["key"].to_pylist()]
            for position in inside
        }


def row_groups(file: pq.ParquetFile, wanted: set[int]) -> Iterator[tuple[int, int, list[int]]]:
    """Yield each row group that holds one of the positions: its number, its first position, and those inside."""
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    for group, (start, end) in enumerate(pairwise(np.cumsum([0, *sizes]).tolist())):
        if inside := sorted(i for i in wanted if start <= i < end):
            yield group, start, inside
