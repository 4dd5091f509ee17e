"""Whether a run fits on its disk, asked before it begins."""

import os
import shutil
from pathlib import Path

from gan_core.errors import ParamsError
from gan_core.storage.urls import is_local

SHARE = 0.3
"""Bytes of a PNG for each byte of its pixels, at least: toy portraits take 0.45 to 0.55, photographs about 0.6."""
SHARES = {"png": SHARE, "webp": 0.2, "jpeg": 0.01}
"""The same by format. Toy portraits take 0.2 to 0.5 as WebP; JPEG of the lowest quality takes next to nothing."""


def check_space(output: str, rows: int, pictures: int, size: int, stored: str = "png") -> None:
    """Refuse a run whose pictures can't fit on the disk of a local ``output``; buckets are not asked.

    ``pictures`` is the number of image columns, each of ``size`` pixels squared, ``stored`` in that format. What
    ``output`` holds already counts as written. Raises ``ParamsError``.
    """
    if not is_local(output):
        return
    folder = Path(output).absolute()
    needed = int(rows * pictures * 3 * size**2 * SHARES[stored])
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.is_dir())).free
    if needed > free and (needed := needed - _bytes_in(folder)) > free:  # files are counted only where it matters
        raise ParamsError(
            f"{output} needs at least {needed / 1e9:.1f} GB for the pictures of {rows} rows, and {free / 1e9:.1f} GB "
            "are free there: make room, name another folder, or ask for fewer edits"
        )


def _bytes_in(folder: Path) -> int:
    return sum(
        entry.stat(follow_symlinks=False).st_size
        for place, _, _ in os.walk(folder)
        for entry in os.scandir(place)
        if entry.is_file(follow_symlinks=False)
    )
