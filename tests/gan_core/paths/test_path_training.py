"""Training paths: over any generator and space, the same whether or not it was interrupted."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.sngan import SNGAN
from gan_core.paths.base import PATHS
from gan_core.training import fit
from gan_core.training import paths as training
from gan_core.training.params import PathsParams
from gan_core.training.paths import PathState, draw_moves, recognised, train_paths
from tests.gan_core.editing.conftest import LinearWorld
from tests.reports import Reports

SHA = "0" * 64


def trained(name: str, params: PathsParams, generator: Generator, folder: Path) -> PathState:
    state = PathState.create(name, params, generator, SHA)
    train_paths(state, params, generator, folder / "state.pt", Reports())
    return state


@pytest.mark.parametrize("name", PATHS.names())
def test_every_model_is_trained(name: str, params: PathsParams, world: LinearWorld, tmp_path: Path) -> None:
    before = PathState.create(name, params, world, SHA)
    after = trained(name, params, world, tmp_path)
    learnt = [key for key, parameter in after.paths.model.named_parameters() if parameter.numel()]
    ours, theirs = before.paths.state_dict(), after.paths.state_dict()
    moved = [key for key in learnt if not torch.equal(ours[f"model.{key}"], theirs[f"model.{key}"])]
    assert bool(moved) == (name not in ("identity", "random"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if key.startswith("frame"))


@pytest.mark.parametrize("space", ["z", "w", "w_plus"])
def test_every_space_is_trained_in(space: str, params: PathsParams, world: LinearWorld, tmp_path: Path) -> None:
    params = params.model_copy(update={"space": space, "steps": 1})
    state = trained("curvilinear", params, world, tmp_path)
    assert state.paths.frame.axes.shape == (6, 72 if space == "w_plus" else 12)


def test_a_generator_without_w_is_trained_in_z(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = SNGAN((8, 8, 8), 1, 6).eval().requires_grad_(False)
    params = PathsParams(space="z", rank=None, steps=2, batch_size=4, reconstructor_size=32)
    state = trained("warped", params, generator, tmp_path)
    assert (state.paths.model.dim, state.seen) == (6, 8)
    with pytest.raises(ParamsError, match="no space 'w'"):
        PathState.create("warped", PathsParams(), generator, SHA)


def test_interrupted_training_ends_with_the_same_bits(
    params: PathsParams, world: LinearWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained("orthogonal", params, world, tmp_path / "..")
    monkeypatch.setattr(fit, "SAVE_SECONDS", -1)
    calls = iter(range(100))
    real = training.train_step

    def stopped(*arguments: Any) -> dict[str, float]:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(training, "train_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained("orthogonal", params, world, tmp_path)
    monkeypatch.setattr(training, "train_step", real)
    resumed = PathState.create("orthogonal", params, world, SHA)
    resumed.load(tmp_path / "state.pt")
    assert resumed.seen == 2 * params.batch_size
    resumed = trained("orthogonal", params, world, tmp_path)
    assert all(torch.equal(value, whole.paths.state_dict()[key]) for key, value in resumed.paths.state_dict().items())


def test_other_parameters_do_not_take_up_the_work(params: PathsParams, world: LinearWorld, tmp_path: Path) -> None:
    trained("orthogonal", params, world, tmp_path)
    other = PathState.create("orthogonal", params.model_copy(update={"seed": 1}), world, SHA)
    other.load(tmp_path / "state.pt")
    assert other.seen == 0


def test_moves_go_both_ways_equally_and_keep_their_lengths(params: PathsParams, world: LinearWorld) -> None:
    params = params.model_copy(update={"batch_size": 4000})
    moves = draw_moves(
        PathState.create("identity", params, world, SHA).paths, params, world, torch.Generator().manual_seed(1)
    )
    assert abs((moves.amounts > 0).float().mean() - 0.5) < 0.03
    assert params.amounts[0] <= moves.amounts.abs().min() <= moves.amounts.abs().max() <= params.amounts[1]
    assert set(moves.paths.tolist()) == set(range(6))


def test_paths_come_to_be_recognised(params: PathsParams, world: LinearWorld, tmp_path: Path) -> None:
    params = params.model_copy(update={"steps": 60, "batch_size": 32, "lr": 1e-2})
    state = PathState.create("orthogonal", params, world, SHA)
    reports = Reports()
    train_paths(state, params, world, tmp_path / "state.pt", reports)
    assert recognised(state, params, world, 4) > 2 / 6
    (seen, metrics, pictures), *_ = reports
    assert (seen, pictures.shape) == (60 * 32, (48, 3, 8, 8))
    assert set(metrics) == {"which", "how_far", "volume", "accuracy"}


def test_pictures_that_are_too_small_for_the_reconstructor_are_refused(params: PathsParams, world: LinearWorld) -> None:
    with pytest.raises(ParamsError, match=r"the reconstructor 'lenet' would see 16 px, and needs 32: set"):
        PathState.create("linear", params.model_copy(update={"reconstructor_size": 16}), world, SHA)
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        PathsParams(batch_size=1)
