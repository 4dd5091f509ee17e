"""Naming paths, measuring them, and the file that holds them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.checkpoints.files import Card, Loaded, load_checkpoint, save_checkpoint
from gan_core.errors import CheckpointError, ParamsError
from gan_core.judges.scorers import Scorers
from gan_core.paths.base import PATHS
from gan_core.paths.linear import Identity, Linear
from gan_core.paths.measures import (
    Bench,
    alignment,
    bend,
    changes,
    commutativity_errors,
    mean_errors,
    round_trip,
    side_effect_matrix,
)
from gan_core.paths.naming import Ranking, assign, name_paths, rank_paths
from gan_core.paths.space import Frame, sample_codes
from gan_core.paths.stored import NamedPath, SemanticPaths, load_paths, save_paths
from tests.gan_core.editing.conftest import NAMES, LinearWorld


@pytest.fixture(scope="module")
def along_axes(world: LinearWorld, scorers: Scorers) -> SemanticPaths:
    """Path k is the world's axis k, in units of its standard deviation; 1 (colour) runs backwards."""
    frame = Frame(12)
    frame.axes.copy_(world.axes / 0.2 * torch.tensor([1.0, -1.0] + [1.0] * 10)[:, None])
    paths = SemanticPaths(Identity(12), frame, "w", "0" * 64)
    ranking = rank_paths(paths, world, scorers, 40, 2.0)
    name_paths(paths, world, scorers, ranking, ["pose", "colour", "age"], 0.25, 4.0)
    return paths


def test_every_attribute_gets_its_own_path_and_the_right_sign(along_axes: SemanticPaths) -> None:
    assert {name: named.path for name, named in along_axes.named.items()} == {"pose": 0, "colour": 1, "age": 2}
    assert [along_axes.named[name].unit > 0 for name in NAMES] == [True, False, True]


def test_a_unit_moves_by_the_wanted_share(along_axes: SemanticPaths) -> None:
    for named in along_axes.named.values():
        assert named.move == pytest.approx(0.25, abs=0.02)
        assert named.scores["move"] == named.move
        assert named.scores["side_effect"] < 0.01


def test_ranking_scores(along_axes: SemanticPaths, world: LinearWorld, scorers: Scorers) -> None:
    ranking = rank_paths(along_axes, world, scorers, 20, 1.0)
    assert ranking.corr.shape == (12, 3)
    assert ranking.corr[0].argmax() == 0
    assert ranking.corr_l1.sum(1).max() <= 1 + 1e-5
    assert ranking.corr_l1[0, 0] > 0.9 > 0.2 > ranking.corr_l1[6].max()


def test_candidates_are_those_that_change_the_attribute_most_and_most_alone() -> None:
    slope = torch.tensor([[0.9, 0.8], [0.7, 0.0], [0.0, -0.5], [0.1, 0.1]])
    ranking = Ranking(("a", "b"), slope, torch.zeros(4))
    assert ranking.candidates(["b", "a"], 2) == [("b", 2), ("b", 0), ("a", 1), ("a", 0)]


def test_two_attributes_never_share_a_path_and_the_better_edit_is_taken() -> None:
    def tried(identity_kept: float, move: float = 0.5) -> NamedPath:
        return NamedPath(0, 1.0, move, scores={"identity_kept": identity_kept, "side_effect": 0.1, "move": move})

    both = {("a", 3): tried(0.9), ("b", 3): tried(0.8), ("a", 5): tried(0.7), ("b", 6): tried(0.4)}
    assert assign(["a", "b"], both, 0.5) == {"a": 5, "b": 3}
    short = {("a", 3): tried(0.9, move=0.2), ("a", 5): tried(0.3)}
    assert assign(["a"], short, 0.5) == {"a": 5}
    assert assign(["a", "b"], {("a", 3): tried(0.9), ("b", 3): tried(0.8)}, 0.5) == {"a": 3}


def test_strengths_are_per_row_and_names_are_checked(along_axes: SemanticPaths, world: LinearWorld) -> None:
    codes = sample_codes(world, "w", 3, torch.Generator().manual_seed(0))
    rows = along_axes.edit(codes, {"pose": torch.tensor([0.0, 0.5, 1.0]), "age": -0.5})
    assert torch.allclose(
        rows[2:], along_axes.edit(along_axes.edit(codes[2:], {"age": -0.5}), {"pose": 1.0}), atol=1e-5
    )
    with pytest.raises(ParamsError, match=r"no path is called 'poes'; did you mean 'pose'"):
        along_axes.edit(codes, {"poes": 1.0})
    with pytest.raises(ParamsError, match=r"strength nan of 'pose' is outside of -1 to 1"):
        along_axes.find("pose", float("nan"))
    with pytest.raises(ParamsError, match=r"strength -2.5 of 'pose' is outside of -1 to 1"):
        along_axes.edit(codes, {"pose": torch.tensor([0.1, -2.5, 1.0])})


def test_measures_of_straight_paths(along_axes: SemanticPaths, world: LinearWorld, scorers: Scorers) -> None:
    codes = sample_codes(world, "w", 50, torch.Generator().manual_seed(5))
    bench = Bench.of(along_axes, world, scorers, codes)
    errors = commutativity_errors(bench, "pose", "colour")
    assert sorted(errors) == ["order/colour", "order/pose", "undo/colour", "undo/pose"]
    assert all(error.shape == (50,) and error.max() < 0.01 for error in errors.values())
    moved, lost = changes(bench)
    matrix = side_effect_matrix(moved)
    torch.testing.assert_close(matrix.diagonal(), torch.full((3,), 100.0))
    assert (matrix - matrix.diag().diag()).abs().max() < 1.0
    assert lost.shape == (3, 50)


def test_measures_leave_out_what_nothing_changes(
    along_axes: SemanticPaths, world: LinearWorld, scorers: Scorers
) -> None:
    codes = sample_codes(world, "w", 8, torch.Generator().manual_seed(5))
    whole = mean_errors(Bench.of(along_axes, world, scorers, codes))
    assert set(whole) == {"order", "undo", "side_effects", "identity"}
    name, other, _ = along_axes.named
    for unit in (0.0, 1e-7):
        along_axes.named[other] = replace(along_axes.named[other], unit=unit)
        still = mean_errors(Bench.of(along_axes, world, scorers, codes))
        assert set(still) == set(whole) and all(0 <= value < 10 for value in still.values())
    along_axes.named = {name: along_axes.named[name]}
    assert set(mean_errors(Bench.of(along_axes, world, scorers, codes))) == {"identity"}


def test_measures_tell_paths_that_do_not_commute(world: LinearWorld, scorers: Scorers) -> None:
    torch.manual_seed(1)
    warped = PATHS.get("warped")(dim=12, dipoles=4)  # type: ignore[call-arg]
    paths = SemanticPaths(warped.requires_grad_(False), Frame(12), "w", "0" * 64)
    paths.named = {"pose": NamedPath(0, 3.0, 0.2), "colour": NamedPath(1, 3.0, 0.2)}
    codes = sample_codes(world, "w", 40, torch.Generator().manual_seed(5))
    errors = commutativity_errors(Bench.of(paths, world, scorers, codes), "pose", "colour")
    assert errors["order/pose"].mean() > 1
    assert round_trip(paths, codes, 2.0)["commutator"] > 1e-2


def test_round_trip_of_straight_paths(along_axes: SemanticPaths, world: LinearWorld) -> None:
    codes = sample_codes(world, "w", 50, torch.Generator().manual_seed(5))
    assert max(round_trip(along_axes, codes, 3.0).values()) < 1e-5


def test_alignment_is_the_cosine_between_the_moves_of_two_models() -> None:
    codes = torch.randn(20, 2, generator=torch.Generator().manual_seed(5))
    first, turned = Linear(2), Linear(2)
    with torch.no_grad():
        turned.linear.weight.copy_(3 * torch.tensor([[0.5, 0.0], [3**0.5 / 2, -1.0]]))  # 60 degrees, and the way back
    before, after = (SemanticPaths(model, Frame(2), "w", "0" * 64) for model in (first, turned))
    assert alignment(before, before, codes, 2.0) == pytest.approx(1.0)
    assert alignment(after, before, codes, 2.0) == pytest.approx((0.5 - 1.0) / 2)
    assert bend(after, codes, 2.0) < 1e-6


@pytest.mark.parametrize("name", PATHS.names())
def test_a_file_gives_back_what_was_stored(name: str, tmp_path: Path) -> None:
    codes = torch.randn(30, 10, generator=torch.Generator().manual_seed(0))
    paths = SemanticPaths(PATHS.get(name)(dim=4), Frame.principal(codes, 4), "w", "0" * 64).eval()  # type: ignore[call-arg]
    paths.named = {"smile": NamedPath(2, -0.7, 0.5, (-1.0, 1.5), {"move": 0.5})}
    save_paths(tmp_path / "p.safetensors", paths, "a test")
    again = load_paths(tmp_path / "p.safetensors").model
    assert (again.named, again.space, again.generator_sha256) == (paths.named, "w", "0" * 64)
    assert torch.equal(again.edit(codes, {"smile": 1.2}), paths.edit(codes, {"smile": 1.2}))


def test_files_of_another_kind_or_generator_are_refused(tmp_path: Path) -> None:
    generator, other = tmp_path / "g.safetensors", tmp_path / "p.safetensors"
    card = Card(kind="generator", name="sngan", made_by="test", licence="none", source="test")
    save_checkpoint(generator, {"w": torch.ones(2)}, card)
    with pytest.raises(CheckpointError, match=r"g.safetensors holds generator, not paths"):
        load_paths(generator)
    as_generator: Loaded[Any] = load_checkpoint(generator)
    save_paths(other, SemanticPaths(Linear(4), Frame(4), "z", "1" * 64), "a test")
    with pytest.raises(CheckpointError, match=r"was made for the generator 111111111111, not for .*g.safetensors"):
        load_paths(other, as_generator)
