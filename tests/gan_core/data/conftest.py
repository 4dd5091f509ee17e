import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_core.data.images import encode_png


def make_png(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8))


@pytest.fixture
def pngs() -> list[bytes]:
    """Twelve small images, all different."""
    return [make_png(seed) for seed in range(12)]


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
