"""A world in which attributes are linear in the latent, so that its paths have right answers."""

import pytest
import torch

from gan_core.editing.calibrate import Scorers
from gan_core.params import PathsParams
from tests.gan_core.editing.conftest import NAMES, LinearWorld


@pytest.fixture(scope="session")
def world() -> LinearWorld:
    return LinearWorld()


@pytest.fixture(scope="session")
def scorers() -> Scorers:
    def identity(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(images[:, 1, 0, :6], dim=1)

    return Scorers(NAMES, lambda images: images[:, 0, 0, :3], identity)


@pytest.fixture
def params() -> PathsParams:
    return PathsParams(
        rank=6, steps=4, batch_size=8, reconstructor_size=32, attributes=["pose", "colour"], models={"fc": {"width": 8}}
    )
