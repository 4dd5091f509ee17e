"""A directions file gives back what was stored and is refused where it doesn't belong."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.checkpoints.files import Card, Loaded, file_sha256, load_checkpoint, save_checkpoint
from gan_core.editing.directions import Direction, find_direction, load_directions, save_directions
from gan_core.errors import CheckpointError, ParamsError


def generator_file(path: Path, value: float) -> Path:
    card = Card(kind="generator", name="stylegan2", made_by="test", licence="none", source="test")
    save_checkpoint(path, {"w": torch.full((2,), value)}, card)
    return path


def as_loaded(path: Path) -> Loaded[Any]:
    """The file as a generator that was loaded from it; directions ask for nothing but its hash."""
    return load_checkpoint(path)


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    return generator_file(tmp_path / "generator.safetensors", 1.0)


@pytest.fixture
def stored(tmp_path: Path, generator: Path) -> Path:
    sha256 = file_sha256(generator)
    smile = Direction("smile", torch.randn(8), sha256, layers=(2, 5), method="dual", scores={"move": 0.5})
    yaw = Direction("yaw", torch.randn(6, 8), sha256, space="w_plus", range=(-2.0, 1.5))
    save_directions(tmp_path / "directions.safetensors", [yaw, smile], "test", {"samples": 3})
    return tmp_path / "directions.safetensors"


def test_directions_come_back_exactly(tmp_path: Path, generator: Path) -> None:
    before = Direction(
        "smile", torch.randn(8), file_sha256(generator), "w", "x", (-2.0, 1.5), (2, 5), "dual", {"move": 0.5}
    )
    save_directions(tmp_path / "d.safetensors", [before], "test")
    after = load_directions(tmp_path / "d.safetensors", as_loaded(generator)).model["smile"]
    assert torch.equal(after.vector, before.vector)
    assert {k: v for k, v in vars(after).items() if k != "vector"} == {
        k: v for k, v in vars(before).items() if k != "vector"
    }


def test_listing_is_sorted_and_needs_no_generator(stored: Path, generator: Path) -> None:
    generator.unlink()
    assert [(d.name, d.layers) for d in load_directions(stored).model.values()] == [("smile", (2, 5)), ("yaw", None)]


def test_a_file_made_for_another_generator_is_refused_naming_both(stored: Path, tmp_path: Path) -> None:
    other = generator_file(tmp_path / "other.safetensors", 2.0)
    made_for = load_directions(stored).model["smile"].generator_sha256[:12]
    with pytest.raises(
        CheckpointError,
        match=rf"made for the generator {made_for}, not for .*other.safetensors \({file_sha256(other)[:12]}",
    ):
        load_directions(stored, as_loaded(other))


def test_an_unknown_direction_gets_near_matches(stored: Path) -> None:
    with pytest.raises(ParamsError, match=r"unknown direction 'smlie'; did you mean 'smile'\?"):
        find_direction(load_directions(stored).model, "smlie")


def test_another_kind_of_checkpoint_is_refused(generator: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds a generator, not directions"):
        load_directions(generator)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*: check the path"):
        load_directions(tmp_path / "none.safetensors")


def test_directions_of_two_generators_do_not_share_a_file(tmp_path: Path) -> None:
    pair = [Direction("a", torch.ones(2), "1" * 64), Direction("b", torch.ones(2), "2" * 64)]
    with pytest.raises(ValueError, match="2 generators"):
        save_directions(tmp_path / "d.safetensors", pair, "test")
