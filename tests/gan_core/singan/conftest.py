"""Tiny pictures, and SinGANs of them that learn for a moment."""

import pytest
import torch
from torch import Tensor

from gan_core.training.params import SinganParams


@pytest.fixture(scope="session")
def pictures() -> Tensor:
    """Two pictures of 14 px, smooth with an edge."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 14), torch.linspace(-1, 1, 14), indexing="ij")
    first = torch.stack([x, y, (x > 0).float() - 0.5])
    return torch.stack([first, first.flip(0)]).clamp(-0.9, 0.9)


@pytest.fixture
def params() -> SinganParams:
    return SinganParams(min_size=11, channels=4, iterations=2, steps=2, drop_at=0.5, precision="exact")
