"""Portraits that need no rendering on disk."""

import pytest

from gan_core.toy.renderer import render, sample_factors
from gan_core.toy.training.portraits import PortraitSet


@pytest.fixture(scope="session")
def drawn() -> PortraitSet:
    """Twelve portraits as the renderer draws them."""
    factors = sample_factors(range(12))
    made = render(factors)
    pixels = (made.image * 127.5 + 128).clamp(0, 255).byte().permute(0, 2, 3, 1)
    return PortraitSet(pixels.numpy(), made.segmentation.numpy(), factors.numpy())
