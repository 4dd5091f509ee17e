"""What the tests of the stages share: small models, and rows as the align stage leaves them."""

import numpy as np
import pytest

from gan_core.params import ModelPaths
from gan_core.rows import Row
from gan_core.storage.images import encode_png, image_value

SIZE = 64


@pytest.fixture(scope="session")
def models(tiny_models: dict[str, str]) -> ModelPaths:
    return ModelPaths(**tiny_models)


@pytest.fixture(scope="session")
def aligned_rows() -> list[Row]:
    """Eleven rows with blocky noise for images."""
    stream = np.random.default_rng(0)
    rows: list[Row] = []
    for i in range(11):
        coarse = stream.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        png = encode_png(np.kron(coarse, np.ones((SIZE // 4, SIZE // 4, 1), dtype=np.uint8)))
        rows.append({"key": f"row-{i}", "status": "ok", "reason": "", "stage": "align", "image": image_value(png, "")})
    return rows


def make_png(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8))


@pytest.fixture
def pngs() -> list[bytes]:
    """Twelve small images, all different."""
    return [make_png(seed) for seed in range(12)]
