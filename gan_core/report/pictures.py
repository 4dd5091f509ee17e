"""The pictures of the rows that are shown, small enough for a page, as ``data:`` addresses."""

import base64
import io
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from gan_core.report.rows import Line
from gan_core.runs.run import Run
from gan_core.storage.images import ImageError, decode_image
from gan_core.storage.shards import IMAGE, open_shard, to_rows
from gan_core.storage.urls import exists, join_url

LARGEST_SIDE = 256
LOSSLESS_SIDE = 128
NAMES = {("source", "image"): "source", ("align", "image"): "aligned", ("encode", "reconstruction"): "encoded"}

Strips = dict[tuple[str, int], dict[str, str]]


def read_strips(run: Run, lines: Iterable[Line], stages: Iterable[str]) -> Strips:
    """Return each line's pictures by name, in order: source, aligned, encoded, tuned, each edit.

    The picture in the column ``image`` of another stage has the name of that stage. Only the row groups that hold a
    line are read. A picture that is missing or can't be decoded is left out.
    """
    positions: dict[str, set[int]] = {}
    for line in lines:
        positions.setdefault(line.shard, set()).add(line.position)
    strips: Strips = {(shard, i): {} for shard, found in positions.items() for i in found}
    for shard, wanted in positions.items():
        for stage in stages:
            for position, name, data in _read_images(run, stage, shard, wanted):
                if url := to_data_url(data, run.params.align.max_pixels):
                    strips[shard, position][name] = url
    return strips


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
    url = join_url(run.source, shard) if stage == "source" else join_url(run.output, stage, shard)
    if stage == "source" and not exists(url):  # a dataset may have been moved since; its run can still be looked at
        return
    with open_shard(url) as file:
        columns = [f.name for f in file.schema_arrow if f.type == IMAGE]
        for group, start, inside in _groups(file, wanted) if columns else ():
            table = file.read_row_group(group, columns=columns).take(np.array(inside) - start)
            for position, row in zip(inside, to_rows(table.combine_chunks().to_batches()[0]), strict=True):
                for name in columns:
                    yield position, _shown_as(stage, name), (row[name] or {}).get("bytes")


def _shown_as(stage: str, column: str) -> str:
    return NAMES.get((stage, column), stage if column == "image" else column)


def _groups(file: pq.ParquetFile, wanted: set[int]) -> Iterator[tuple[int, int, list[int]]]:
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    for group, (start, end) in enumerate(pairwise(np.cumsum([0, *sizes]).tolist())):
        if inside := sorted(i for i in wanted if start <= i < end):
            yield group, start, inside
