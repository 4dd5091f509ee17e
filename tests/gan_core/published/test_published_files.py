"""Files of published path models, read as paths of a generator."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gan_core.checkpoints.files import Card, Loaded
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.base import Generator
from gan_core.generators.sngan import SNGAN
from gan_core.paths.stored import SemanticPaths
from gan_core.published.paths import read_published_paths
from tests.golden.families import filled, raw
from tests.golden.fill import HERE, golden, relative_error

FILES = {
    "orthogonal": ("voynov_deformator_ortho_128", "plain"),
    "linear": ("voynov_deformator_linear_20_160_128", "plain"),
    "fc": ("voynov_deformator_fc_128", "plain"),
    "warped": ("warped_support_sets_K64_N128_d128_sngan", "rbf"),
    "curvilinear": ("decurved_ffjord_d128", "flow"),
}


@pytest.fixture(scope="module")
def generator() -> Loaded[Generator]:
    card = Card(kind="generator", name="sngan", made_by="test", licence="none", source="test")
    return Loaded(SNGAN((8, 8), 1, 128), "1" * 64, card, "g.safetensors")


def read(
    state: object, generator: Loaded[Generator], folder: Path, projective: bool = False, count: int | None = None
) -> SemanticPaths:
    torch.save(state, folder / "published.pt")
    return read_published_paths(folder / "published.pt", "z", generator, projective, count)


@pytest.mark.parametrize("name", FILES)
def test_every_published_model_is_recognised(name: str, generator: Loaded[Generator], tmp_path: Path) -> None:
    paths = read(filled(*FILES[name]), generator, tmp_path)
    assert (paths.model.name, paths.space, paths.frame.axes.shape) == (name, "z", (128, 128))
    z, which, amounts = raw("z", 3, 128), torch.tensor([0, 5, 19]), torch.tensor([1.0, -2.0, 0.5])
    moved = paths.move(z, which, amounts)
    torch.testing.assert_close(moved, paths.model.move(z, which, amounts), rtol=1e-4, atol=1e-5)
    assert (moved - z).norm(dim=1).min() > 0.1


def test_support_sets_move_as_published(generator: Loaded[Generator], tmp_path: Path) -> None:
    expected, _ = golden("warped-rbf-direction")
    paths = read(filled(*FILES["warped"]), generator, tmp_path)
    z, which = raw("z", 4, 128), torch.from_numpy(expected["in_k"])
    step: Tensor = paths.move(z, which, torch.full((4,), 0.2)) - z
    assert relative_error(step / 0.2, expected["out_direction"]) < 1e-4


def test_what_weights_do_not_say_is_told(generator: Loaded[Generator], tmp_path: Path) -> None:
    linear = filled(*FILES["linear"])
    assert read(linear, generator, tmp_path, projective=True).model.name == "projective"
    flow = filled(*FILES["curvilinear"])
    assert read(flow, generator, tmp_path, count=20).model.count == 20
    with pytest.raises(ParamsError, match=r"200 paths are too many or too few: this flow has 128 axes"):
        read(flow, generator, tmp_path, count=200)


def test_files_that_are_no_paths_are_refused(generator: Loaded[Generator], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"published.pt holds no deformator, support sets or flow"):
        read({"conv.weight": torch.zeros(1)}, generator, tmp_path)
    with pytest.raises(CheckpointError, match=r"a part of the paths is missing \('SUPPORT_SETS'\)|holds no deformator"):
        read({"ALPHAS": torch.zeros(2, 4)}, generator, tmp_path)
    with pytest.raises(CheckpointError, match=r"a part of the paths is missing \('ALPHAS'\)"):
        read({"SUPPORT_SETS": torch.zeros(2, 4)}, generator, tmp_path)
    with pytest.raises(CheckpointError, match=r"moves codes of 64 numbers, z of this generator has 128"):
        read({"log_mat_half": torch.zeros(64, 64)}, generator, tmp_path)
    for state in (
        {"log_mat_half": torch.tensor(1.0)},
        {"log_mat_half": torch.zeros(128, 0)},
        {"linear.weight": "abc", "linear.bias": torch.zeros(128)},
        {"ALPHAS": torch.zeros(5, 0), "LOGGAMMA": torch.zeros(5, 1), "SUPPORT_SETS": torch.zeros(5, 0)},
    ):
        with pytest.raises(CheckpointError, match=r"published.pt"):
            read(state, generator, tmp_path)
    with pytest.raises(CheckpointError, match=r"is refused: linear.weight has NaN or infinite values"):
        read({"linear.weight": torch.full((128, 128), math.nan), "linear.bias": torch.zeros(128)}, generator, tmp_path)
    with pytest.raises(CheckpointError, match=r"malicious.pt is refused"):
        read_published_paths(HERE / "malicious.pt", "z", generator, False, None)
    with pytest.raises(ParamsError, match=r"sngan has no space 'w' for paths"):
        read_published_paths(HERE / "malicious.pt", "w", generator, False, None)
