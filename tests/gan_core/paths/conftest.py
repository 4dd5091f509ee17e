"""A world in which attributes are linear in the latent, so that its paths have right answers."""

import pytest

from gan_core.judges.scorers import Scorers
from gan_core.paths import naming
from gan_core.training.params import PathsParams, PathStudyParams
from gan_core.training.path_study import PathStudy
from tests.gan_core.editing.conftest import LinearWorld, world_scorers


@pytest.fixture(scope="session")
def world() -> LinearWorld:
    return LinearWorld()


@pytest.fixture(scope="session")
def scorers() -> Scorers:
    return world_scorers()


@pytest.fixture
def params() -> PathsParams:
    return PathsParams(
        rank=6, steps=4, batch_size=8, reconstructor_size=32, attributes=["pose", "colour"], models={"fc": {"width": 8}}
    )


@pytest.fixture
def study(params: PathsParams, world: LinearWorld, scorers: Scorers, monkeypatch: pytest.MonkeyPatch) -> PathStudy:
    monkeypatch.setattr(naming, "CALIBRATION_CODES", 8)
    small = params.model_copy(update={"rank_codes": 4, "reconstructor_size": 32})
    chosen = PathStudyParams(methods=["straight", "bent"], seeds=[0, 1], moves=[8, 16], codes=6, paths=small)
    return PathStudy(chosen, world, "0" * 64, scorers, {"straight": "orthogonal", "bent": "warped"})
