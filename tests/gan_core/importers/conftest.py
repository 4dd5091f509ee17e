import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

from gan_core.rows import Row
from gan_core.storage.shards import list_shards, read_rows


def rows_of(dataset: str | Path) -> list[Row]:
    """Return all rows of a dataset."""
    return [row for shard in list_shards(dataset) for batch in read_rows(shard) for row in batch]


@pytest.fixture
def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), "teal").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def make_tar() -> Callable[..., Path]:
    """Write an archive of names and bytes; a ``TarInfo`` as value is stored as it is."""

    def make(path: Path, members: Mapping[str, bytes | tarfile.TarInfo], mode: str = "w") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, mode) as archive:
            for name, content in members.items():
                if isinstance(content, tarfile.TarInfo):
                    archive.addfile(content)
                    continue
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return path

    return make
