"""Studies of paths: the cheap moves of a long training, and rows for each method, seed and number of moves."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.layers import upfirdn2d
from gan_core.generators.sngan import SNGAN, UpBlock
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.judges.scorers import Scorers
from gan_core.paths.linear import Identity
from gan_core.paths.measures import match_lengths
from gan_core.paths.reconstructor import RECONSTRUCTORS
from gan_core.paths.space import Frame
from gan_core.paths.stored import NamedPath, SemanticPaths
from gan_core.training import study as trainings
from gan_core.training.drawing import Drawing
from gan_core.training.params import PathsParams
from gan_core.training.path_study import PathStudy
from gan_core.training.paths import PathState, draw_moves, train_paths, train_step
from tests.gan_core.editing.conftest import LinearWorld
from tests.reports import Reports

SHA = "0" * 64


def test_every_method_and_seed_is_measured_at_every_number_of_moves(
    study: PathStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, reports, beside = tmp_path / "rows.json", Reports(), list[tuple[int, int]]()

    def in_turn(jobs: Sequence[Callable[[], object]], workers: int) -> list[object]:
        beside.append((len(jobs), workers))
        return [job() for job in jobs]

    for name in ("in_processes", "results_of"):
        monkeypatch.setattr(trainings, name, in_turn)
    few = replace(study, params=study.params.model_copy(update={"moves": [8]}))
    first = few.run(tmp_path, target, lambda _: Reports(), workers=2)
    assert beside == [(4, 2), (2, 2)], "two methods with two seeds are trained, and measured seed by seed"
    more = replace(study, params=study.params.model_copy(update={"seeds": [0]}))
    rows = more.run(tmp_path, target, lambda _: reports)
    assert rows[:4] == first and reports.steps == [16, 16], "it goes on where it was stopped"
    assert [(row["moves"], row["seed"], row["method"]) for row in rows] == [
        (moves, seed, method) for moves, seed in ((8, 0), (8, 1), (16, 0)) for method in ("straight", "bent")
    ]
    assert json.loads(target.read_text()) == {"key": study.key, "rows": rows}
    for straight, bent in zip(rows[::2], rows[1::2], strict=True):
        assert straight["bend"] < 1e-6 < 0.05 < bent["bend"] and straight["order"] < 0.1
        assert straight["alignment"] < 1 and bent["alignment"] < 1, "both have left where they began"
        for name in ("pose", "colour"):
            assert straight["named"][name][1] == bent["named"][name][1], "one unit moves it equally far"
    other = replace(few, params=few.params.model_copy(update={"codes": 5}))
    with pytest.raises(ParamsError, match=r"straight-0.pt has seen 16 moves, too many for 8: remove it"):
        other.run(tmp_path, target, lambda _: reports)


def test_other_judges_have_columns_of_their_own(study: PathStudy, tmp_path: Path) -> None:
    names, colour = study.scorers.names, study.scorers.names.index("colour")

    def mixed(images: torch.Tensor) -> torch.Tensor:
        """See pose in what the other calls colour."""
        seen = study.scorers.attributes(images).clone()
        seen[:, colour] += seen[:, names.index("pose")]
        return seen

    judges = {"twin": study.scorers, "other": Scorers(names, mixed, study.scorers.identity, "1", identity_sha256="2")}
    small = study.params.model_copy(update={"moves": [8], "seeds": [0], "methods": ["straight"]})
    few = replace(study, params=small, judges=judges)
    (row,) = few.run(tmp_path, tmp_path / "rows.json", lambda _: Reports())
    for measure in ("reached", "order", "undo", "side_effects", "identity"):
        assert row[f"{measure} by twin"] == row[measure], "it sees the same"
        assert f"{measure} by other" in row
    assert row["side_effects by other"] > 1.1 * row["side_effects"]
    assert 0.5 < row["reached"] <= 1
    hashes = {"naming": [None, None], "twin": [None, None], "other": ["1", "2"]}
    assert few.key == f"{study.key} {json.dumps(hashes)}"


def test_a_method_that_is_unable_to_make_a_move_shortens_no_other() -> None:
    def moving(*moves: float) -> SemanticPaths:
        paths = SemanticPaths(Identity(12), Frame(12), "w", SHA)
        paths.named = {name: NamedPath(0, 2.0, move) for name, move in zip(("a", "b"), moves, strict=True)}
        return paths

    far, near, unable = moving(0.5, 0.5), moving(0.4, 0.4), moving(-0.02, 0.25)
    match_lengths([far, near, unable])
    assert [(paths.named["a"].unit, paths.named["a"].move) for paths in (far, near, unable)] == [
        (pytest.approx(1.6), 0.4),
        (2.0, 0.4),
        (2.0, -0.02),
    ]
    assert [paths.named["b"].unit for paths in (far, near, unable)] == [1.0, pytest.approx(1.25), 2.0]
    still, back = moving(0.0, 0.5), moving(-0.1, 0.25)
    match_lengths([still, back])
    assert [(paths.named["a"].unit, paths.named["b"].unit) for paths in (still, back)] == [(2.0, 1.0), (2.0, 2.0)]


@pytest.mark.slow
def test_trainings_beside_each_other_in_a_process_that_may_fork() -> None:
    """Torch refuses gradients in a fork of a process that has used another device, as other tests have here."""
    tests = Path(__file__).with_name("forking.py")
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as a worker has: with more, sums are rounded otherwise
    command = [sys.executable, "-m", "pytest", "-q", str(tests)]
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread)
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout


def test_more_moves_continue_the_same_training(params: PathsParams, world: LinearWorld, tmp_path: Path) -> None:
    def trained(folder: Path, *steps: int) -> PathState:
        for count in steps:
            chosen = params.model_copy(update={"steps": count})
            state = PathState.create("orthogonal", chosen, world, SHA)
            train_paths(state, chosen, world, folder / f"{len(steps)}.pt", Reports())
        return state

    once, twice = trained(tmp_path, 4), trained(tmp_path, 2, 4)
    assert (once.seen, twice.seen) == (32, 32)
    assert all(torch.equal(a, b) for a, b in zip(once.paths.parameters(), twice.paths.parameters(), strict=True))


def test_a_code_is_moved_along_several_paths_and_drawn_once(
    params: PathsParams, world: LinearWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params.model_copy(update={"batch_size": 10, "moves_per_code": 4})
    state = PathState.create("orthogonal", params, world, SHA)
    moves = draw_moves(state.paths, params, world, torch.Generator().manual_seed(1))
    assert moves.codes.shape == (10, 12) and len(moves.codes.unique(dim=0)) == 3
    assert torch.equal(moves.codes[0], moves.codes[3]) and not torch.equal(moves.codes[3], moves.codes[4])
    assert len(moves.paths.unique()) > 3
    drawn = []
    real = LinearWorld.synthesis
    monkeypatch.setattr(LinearWorld, "synthesis", lambda self, w: drawn.append(len(w)) or real(self, w))
    apart = draw_moves(state.paths, params.model_copy(update={"moves_per_code": 1}), world, torch.Generator())
    before = train_step(state, params, Drawing(world, "w", "exact"), replace(moves, repeats=1))
    state = PathState.create("orthogonal", params, world, SHA)
    assert train_step(state, params, Drawing(world, "w", "exact"), moves) == pytest.approx(before)
    assert drawn == [10, 10, 3, 10] and len(apart.codes.unique(dim=0)) == 10


@pytest.mark.parametrize(
    "generator", [SNGAN((8, 8, 8), 1, 6), StyleGAN2(16, style_dim=6, n_mlp=1, channels={4: 8, 8: 8, 16: 8})]
)
def test_fast_pictures_are_near_the_exact_ones_and_leave_the_generator(generator: Generator) -> None:
    generator = generator.eval().requires_grad_(False)
    exact, fast = (Drawing(generator, "z", precision) for precision in ("exact", "fast"))
    codes = torch.randn(8, 6, requires_grad=True)
    wanted = exact(codes)
    (right,) = torch.autograd.grad(wanted.square().sum(), codes)
    found = fast(codes)
    (near,) = torch.autograd.grad(found.float().square().sum(), codes)
    assert (found - wanted).abs().mean() < 0.02 * wanted.abs().mean()
    assert (near - right).norm() < 0.1 * right.norm()
    assert torch.equal(exact(codes), wanted) and exact.generator is generator


def test_smaller_pictures_are_those_that_the_generator_adds_finer_layers_to() -> None:
    generator = StyleGAN2(16, style_dim=6, n_mlp=1, channels={4: 8, 8: 8, 16: 8}).eval().requires_grad_(False)
    codes = torch.randn(3, 6, requires_grad=True)
    small = Drawing(generator, "z", "exact", 8)(codes)
    assert small.shape == (3, 3, 8, 8) and torch.autograd.grad(small.sum(), codes)[0].any()
    with torch.no_grad():
        for layer, _ in generator.layers()[-3:]:
            layer.conv.weight.zero_()
        up = upsampled_rgb(generator, small)
        assert torch.allclose(Drawing(generator, "z", "exact")(codes), up, atol=1e-5)


def upsampled_rgb(generator: StyleGAN2, small: Tensor) -> Tensor:
    to_rgb = generator.to_rgbs[-1]
    return upfirdn2d(small, to_rgb.upsample.kernel, up=2, pad=(2, 1)) + to_rgb.bias


@pytest.mark.parametrize(
    ("generator", "said"),
    [
        (SNGAN((8, 8, 8), 1, 6), "sngan has pictures inside of no size"),
        (StyleGAN2(16, 6, 1, channels={4: 8, 8: 8, 16: 8}), r"stylegan2 has pictures inside of \[4, 8\]"),
    ],
)
def test_pictures_of_a_size_that_is_not_inside_are_refused(generator: Generator, said: str) -> None:
    with pytest.raises(ParamsError, match=f"drawn_size 16: {said}"):
        Drawing(generator, "z", "exact", 16)


def test_a_reconstructor_of_one_channel_looks_at_no_other() -> None:
    torch.manual_seed(0)
    network = RECONSTRUCTORS.get("lenet")(5, 1, 32).eval()
    before, after = torch.randn(2, 4, 3, 16, 16)
    logits, amounts = network(before, after)
    assert logits.shape == (4, 5) and amounts.shape == (4,)
    assert torch.equal(network(before, torch.cat([after[:, :1], before[:, 1:]], 1))[0], logits)
    assert not torch.equal(network(before, before)[0], logits)


def test_a_folded_reconstructor_of_doubled_images_learns_the_same() -> None:
    torch.manual_seed(0)
    plain = RECONSTRUCTORS.get("lenet")(5, 1, 32)
    folded = copy.deepcopy(plain)
    folded.folds = True
    before, after = torch.randn(2, 4, 3, 16, 16)
    for network in (plain, folded):
        logits, amounts = network(before, after)
        (logits.square().sum() + amounts.sum()).backward()
    for (name, one), other in zip(plain.named_parameters(), folded.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-4, msg=name)
    torch.testing.assert_close(folded.state_dict(), plain.state_dict())
    plain.load_state_dict(folded.state_dict())
    small, large = torch.randn(2, 4, 3, 8, 8), torch.randn(2, 4, 3, 32, 32)
    for other_size in (small, large):  # enlarged four times, and not at all
        torch.testing.assert_close(folded.eval()(*other_size)[0], plain.eval()(*other_size)[0], rtol=0, atol=0)


@pytest.mark.parametrize("channels", [(8, 6, 6), (8, 8, 8, 8)], ids=["other-width", "same-width"])
def test_a_folded_generator_draws_the_same(channels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    generator = SNGAN(channels, 1, 6)
    generator.draw(torch.randn(64, 6))  # now its norms have other statistics than the first ones
    generator.eval().requires_grad_(False)
    folded, codes = copy.deepcopy(generator), torch.randn(3, 6)
    folded.fold()
    torch.testing.assert_close(folded.draw(codes), generator.draw(codes), rtol=1e-4, atol=1e-5)
    kinds = [[type(layer) for layer in block.model] for block in folded.modules() if isinstance(block, UpBlock)]
    assert kinds and all(nn.Upsample not in found and nn.ConvTranspose2d in found for found in kinds)
