"""Small generators to tune, and tuning as it was published: all weights, Adam's own decays, no weighting."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.params import EncodeParams, ModelPaths, TuneParams
from gan_core.rows import Row
from gan_core.stages.encode import EncodeStage
from tests.golden.fill import fill

PUBLISHED = {"lr": 1e-3, "lr_rampdown": 0.0, "betas": (0.9, 0.999), "min_resolution": 4, "l2_weight": 1.0}


def published(**changes: Any) -> TuneParams:
    """Return the published settings but for ``changes``."""
    return TuneParams.model_validate(PUBLISHED | changes)


@pytest.fixture(scope="module")
def rows(models: ModelPaths, aligned_rows: list[Row]) -> list[Row]:
    """Two encoded rows."""
    found = aligned_rows[:2]
    return [row | new for row, new in zip(found, EncodeStage(EncodeParams(), models).process(found), strict=True)]


def toy(seed: int = 0) -> StyleGAN2:
    torch.manual_seed(seed)
    return StyleGAN2(16, 8, 2, channels={4: 8, 8: 8, 16: 8}).eval().requires_grad_(False)


def raw(key: str, *shape: int) -> Tensor:
    return torch.from_numpy(fill(f"input:{key}", shape, rule="raw"))


def pooled_difference(images: Tensor, targets: Tensor) -> Tensor:
    return F.avg_pool2d(images - targets, 4).abs().mean((1, 2, 3))
