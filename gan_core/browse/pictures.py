"""One row of a run at a time: its pictures, shrunk and encoded again, and everything else that its stages say."""

import io
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from PIL import Image

from gan_core.pages.pictures import kept_in_source, row_groups
from gan_core.runs.run import SOURCE, Run
from gan_core.storage.images import decode_image
from gan_core.storage.shards import array_shape, holds_images, open_shard, to_rows

LARGEST_SIDE = 1024
QUALITY = 90


def read_picture(run: Run, stage: str, column: str, shard: str, position: int, side: int) -> bytes | None:
    """Return a row's picture as WebP of at most ``side`` pixels, None where the row has none.

    What can't be decoded raises ``ImageError``.
    """
    if stage == SOURCE and not kept_in_source(run, shard, {position}):
        return None
    row = _group(run.shard(stage, shard), column, position)
    data = (row or {}).get("bytes")
    if data is None:
        return None
    picture = decode_image(data, run.params.align.max_pixels)
    picture.thumbnail((min(side, LARGEST_SIDE),) * 2, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=0)
    return buffer.getvalue()


def read_history(run: Run, shard: str, position: int) -> Iterator[dict[str, Any]]:
    """Yield what each stage says of a row, and how the shard was made; pictures and arrays are left out."""
    for stage in (SOURCE, *run.stages):
        if stage == SOURCE and not kept_in_source(run, shard, {position}):
            continue
        with open_shard(run.shard(stage, shard)) as file:
            plain = [f.name for f in file.schema_arrow if not holds_images(f.type) and not array_shape(f.type)]
            group, inside = _locate(file, position)
            (row,) = to_rows(file.read_row_group(group, columns=plain).slice(inside, 1).to_batches()[0])
        receipt, _ = run.receipt(stage, shard)
        said = {"seconds": receipt.seconds, "version": receipt.code_version} if receipt else {}
        yield {"stage": stage, "columns": {name: _shown(value) for name, value in row.items()}, "shard": said}


@lru_cache(maxsize=16)  # pages ask for neighbours; a row group of pictures has up to 32 MiB (GROUP_BYTES)
def _column(url: str, column: str, group: int) -> tuple[Any, ...]:
    with open_shard(url) as file:
        return tuple(file.read_row_group(group, columns=[column])[column].to_pylist())


def _group(url: str, column: str, position: int) -> Any:
    with open_shard(url) as file:
        group, inside = _locate(file, position)
    return _column(url, column, group)[inside]


def _locate(file: Any, position: int) -> tuple[int, int]:
    """The row group of a position, and the place in it; raises ``IndexError`` for one that isn't there."""
    for group, start, _ in row_groups(file, {position}):
        return group, position - start
    raise IndexError(f"there is no row {position}")


def _shown(value: object) -> object:
    """A cell as it is, with bytes in it, however deep, as the first of their hexadecimal digits."""
    if isinstance(value, dict):
        return {name: _shown(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    return value.hex()[:16] if isinstance(value, bytes) else value
