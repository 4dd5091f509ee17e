"""Learnt paths as entries of the edit plan."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core.checkpoints.files import file_sha256
from gan_core.edits.base import EditSetting
from gan_core.edits.path import PathEdit, PathSpec
from gan_core.edits.plan import plan_edits
from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.biggan_deep import BigGANDeep
from gan_core.loading import load_generator
from gan_core.params import ModelPaths
from gan_core.paths.base import PATHS
from gan_core.paths.latents import move_latents
from gan_core.paths.space import Frame, codes_to_w_plus
from gan_core.paths.stored import NamedPath, SemanticPaths, load_paths, save_paths


def built(models: ModelPaths, **entry: Any) -> PathEdit:
    return PathEdit(PathSpec(**entry), EditSetting(models, load_generator(models.generator)))


def latents(n: int = 3) -> Tensor:
    return torch.randn(n, 10, 16, generator=torch.Generator().manual_seed(0))


def edited(kind: PathEdit, w_plus: Tensor) -> list[Tensor]:
    spec: Any = kind.plan(PathSpec(moves={"smile": 1}))[0].spec
    return [kind.edit(w_plus, [{"key": str(i)} for i in range(len(w_plus))], p) for p in kind.plan(spec)]


def stored(models: ModelPaths, folder: Path, name: str, space: str, width: int, **arguments: int) -> str:
    torch.manual_seed(0)
    model = PATHS.get(name)(**({"dim": 6} | arguments))
    paths = SemanticPaths(model, Frame(width, 6), space, file_sha256(models.generator))
    paths.named = {"smile": NamedPath(2, 3.0, 0.5), "yaw": NamedPath(4, -3.0, 0.5)}
    save_paths(folder / "paths.safetensors", paths, "a test")
    return str(folder / "paths.safetensors")


def test_columns_and_targets() -> None:
    plan = plan_edits([PathSpec(moves={"yaw": 1.0, "smile": 0.5}, scales=[-1, 0.5]), PathSpec(moves={"smile": 1.0})])
    assert [p.column for p in plan] == ["smile+yaw@path-1", "smile+yaw@path+0.5", "smile@path+1"]
    assert [p.target for p in plan] == ["", "", "smile"]
    both = [PathSpec(moves={"smile": 1.0}), PathSpec(moves={"smile": 1.0}, name="warped", file="w.safetensors")]
    assert [p.column for p in plan_edits(both)] == ["smile@path+1", "smile@warped+1"]
    with pytest.raises(ValueError, match="name"):
        PathSpec(moves={"smile": 1.0}, name="a/b")


def test_equal_latents_move_as_their_w_and_layers_are_kept_to(models: ModelPaths) -> None:
    paths = load_paths(models.paths, load_generator(models.generator)).model
    w = latents()[:, 0]
    moved = move_latents(paths, w[:, None].expand(-1, 10, -1), {"smile": 1.0})
    torch.testing.assert_close(moved[:, 7], paths.edit(w, {"smile": 1.0}))
    some = move_latents(paths, latents(), {"smile": 1.0}, (2, 5))
    assert torch.equal(some[:, :2], latents()[:, :2]) and torch.equal(some[:, 5:], latents()[:, 5:])
    assert (some[:, 2:5] - latents()[:, 2:5]).norm(dim=2).min() > 1


def test_the_order_of_moves_counts_only_where_paths_do_not_commute(
    models: ModelPaths, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = {"smile": 1.0, "yaw": -0.5}, {"yaw": -0.5, "smile": 1.0}
    for file, matters in ((models.paths, False), (stored(models, tmp_path, "warped", "w", 16, dipoles=4), True)):
        caplog.clear()
        first, second = (built(models, moves=moves, file=file) for moves in (one, other))
        assert ("along warped paths don't commute: smile, then yaw, in this order" in caplog.text) == matters
        pictures = [PathEdit.plan(PathSpec(moves=moves))[0] for moves in (one, other)]
        descriptions = [kind.describe(p) for kind, p in zip((first, second), pictures, strict=True)]
        assert (descriptions[0] != descriptions[1]) == descriptions[0]["in_order"] == matters
        rows: Any = [{"key": "a"}, {"key": "b"}, {"key": "c"}]
        results = [kind.edit(latents(), rows, p) for kind, p in zip((first, second), pictures, strict=True)]
        assert ((results[0] - results[1]).abs().max() > 1e-3) == matters


def test_an_edit_by_a_truncated_generator_is_another_edit(models: ModelPaths) -> None:
    kind, picture = built(models, moves={"smile": 1.0}), PathEdit.plan(PathSpec(moves={"smile": 1.0}))[0]
    whole = kind.describe(picture)
    kind.truncation = 0.4
    assert kind.describe(picture) == whole | {"truncation": 0.4}


def test_paths_in_w_plus_move_all_latents_together(models: ModelPaths, tmp_path: Path) -> None:
    file = stored(models, tmp_path, "orthogonal", "w_plus", 160)
    kind = built(models, moves={"smile": 1.0}, file=file)
    (moved,) = edited(kind, latents())
    assert (moved - latents()).flatten(1).norm(dim=1) == pytest.approx([3.0] * 3, rel=1e-3)
    with pytest.raises(ParamsError, match=r"paths in w_plus move all latents together: leave out layers"):
        built(models, moves={"smile": 1.0}, file=file, layers=(0, 4))


def test_what_can_not_be_done_is_said_before_any_row_is_read(models: ModelPaths, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"no path is called 'smyle'; did you mean 'smile'"):
        built(models, moves={"smyle": 1.0})
    with pytest.raises(ParamsError, match=r"strength 1.5 of 'yaw' is outside of -1 to 1"):
        built(models, moves={"yaw": 0.5}, scales=[1.0, 3.0])
    with pytest.raises(ParamsError, match=r"these paths run through z, and latents of stylegan2 are in w_plus"):
        built(models, moves={"smile": 1.0}, file=stored(models, tmp_path, "identity", "z", 16))
    with pytest.raises(ParamsError, match=r"codes of 20 numbers, and this generator's have 16"):
        built(models, moves={"smile": 1.0}, file=stored(models, tmp_path, "identity", "w", 20))
    with pytest.raises(CheckpointError, match=r"holds generator, not paths"):
        built(models, moves={"smile": 1.0}, file=models.generator)


def test_paths_in_z_move_codes_before_they_are_truncated() -> None:
    torch.manual_seed(0)
    generator = BigGANDeep(width=4, widths=(2,) * 10 + (1,), classes=2, label=0)
    paths = SemanticPaths(PATHS.get("warped")(dim=128, count=1, dipoles=4), Frame(128), "z", "sha")
    paths.named = {"smile": NamedPath(0, 2.0, 0.5)}
    z = torch.randn(3, 128)
    moved = move_latents(paths, codes_to_w_plus(generator, "z", z), {"smile": 1.0}, truncation=generator.truncation)
    torch.testing.assert_close(moved, codes_to_w_plus(generator, "z", paths.edit(z, {"smile": 1.0})))
    assert generator.truncation == 0.4 and (moved - codes_to_w_plus(generator, "z", z)).norm(dim=2).min() > 0.1
