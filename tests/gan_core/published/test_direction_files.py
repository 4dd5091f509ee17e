"""Files of directions as people have them: dictionaries, lists, pointers, and arrays of every shape."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gan_core.checkpoints.files import file_sha256
from gan_core.editing.directions import load_directions
from gan_core.errors import CheckpointError, ParamsError
from gan_core.published.directions import Source, import_direction, read_direction
from tests.conftest import W_DIM

N_LATENT = 10
RANDOM = np.random.default_rng(0)
AGE, SMILE = RANDOM.standard_normal((2, W_DIM)).astype(np.float32)
EACH = RANDOM.standard_normal((N_LATENT, W_DIM)).astype(np.float32)
SHA = "0" * 64
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4096\n"


def tensors(value: Any) -> Any:
    """Arrays as tensors, at whatever depth."""
    if isinstance(value, dict):
        return {key: tensors(inner) for key, inner in value.items()}
    return [tensors(v) for v in value] if isinstance(value, list) else torch.from_numpy(np.asarray(value))


SHAPES = {
    "[d]": (AGE, AGE),
    "[1, d]": (AGE[None], AGE),
    "[d, 1]": (AGE[:, None], AGE),
    "[1, 1, d]": (AGE[None, None], AGE),
    "[L, d]": (EACH, EACH),
    "[1, L, d]": (EACH[None], EACH),
    "[L, 1, d]": (EACH[:, None], EACH),
}


@pytest.mark.parametrize("kind", ["npy", "pt", "safetensors", "named wrongly"])
@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_of_every_shape(shape: str, kind: str, tmp_path: Path, tiny_models: dict[str, str]) -> None:
    stored, expected = SHAPES[shape]
    path = tmp_path / f"old.{kind}"
    if kind in ("npy", "named wrongly"):
        with open(path := tmp_path / ("old.npy" if kind == "npy" else "old.pt"), "wb") as file:
            np.save(file, stored)
    elif kind == "pt":
        torch.save(torch.from_numpy(stored), path)
    else:
        save_file({"old": torch.from_numpy(stored).contiguous()}, path)
    direction = import_direction(path, tmp_path / "d.safetensors", tiny_models["generator"], Source(""))
    assert np.array_equal(direction.vector, expected) and direction.name == "old"
    assert direction.space == ("w" if expected.ndim == 1 else "w_plus")


NAMED: dict[str, Any] = {
    "dictionary": {"age": AGE[None], "smile": SMILE[None], "bias": np.float32(2)},
    "nested": {"age": {"boundary": AGE, "intercept": AGE[:1]}, "smile": {"boundary": SMILE, "score": 0.9}},
    "boundaries": {"stylegan2_ffhq_age_w_boundary": AGE[None], "stylegan2_ffhq_smile_w_boundary": SMILE[None]},
    "list": [AGE, SMILE[None]],
    "rows": np.stack([AGE, SMILE]),
    "rows of W+": np.stack([EACH, EACH + 1]),
}
CHOSEN: dict[str, tuple[str, str, np.ndarray]] = {
    "dictionary": ("smile", "smile", SMILE),
    "nested": ("smile", "smile", SMILE),
    "boundaries": ("stylegan2_ffhq_smile_w_boundary", "smile", SMILE),
    "list": ("1", "x-1", SMILE),
    "rows": ("1", "x-1", SMILE),
    "rows of W+": ("1", "x-1", EACH + 1),
}


@pytest.mark.parametrize("form", NAMED)
def test_an_entry_chooses_from_several(form: str, tmp_path: Path) -> None:
    torch.save(tensors(NAMED[form]), tmp_path / "x.pt")
    entry, name, expected = CHOSEN[form]
    direction = read_direction(tmp_path / "x.pt", Source(SHA, entry=entry))
    assert direction.name == name and np.array_equal(direction.vector, expected)
    assert read_direction(tmp_path / "x.pt", Source(SHA, entry=entry, name="mine")).name == "mine"
    with pytest.raises(ParamsError, match=r"x\.pt has no entry 'smil'; (did you mean|known:) "):
        read_direction(tmp_path / "x.pt", Source(SHA, entry="smil"))


@pytest.mark.parametrize("form", ["dictionary", "nested", "boundaries", "list"])
def test_several_directions_without_a_choice_are_listed(form: str, tmp_path: Path) -> None:
    torch.save(tensors(NAMED[form]), tmp_path / "x.pt")
    with pytest.raises(
        CheckpointError, match=r"holds several tensors, not one direction: choose an entry with --entry"
    ):
        read_direction(tmp_path / "x.pt", Source(SHA))


@pytest.mark.parametrize("form", [[AGE], {"vector": AGE}, {"boundary": AGE[None], "intercept": AGE[:1]}, {"a": [AGE]}])
def test_a_single_one_needs_no_choice(form: Any, tmp_path: Path) -> None:
    torch.save(tensors(form), tmp_path / "age.pt")
    direction = read_direction(tmp_path / "age.pt", Source(SHA))
    assert direction.name == "age" and np.array_equal(direction.vector, AGE)


def test_an_entry_that_begins_like_others_is_chosen_by_its_whole_name(tmp_path: Path) -> None:
    torch.save(tensors({"smile": SMILE, "smile.layer2": AGE}), tmp_path / "x.pt")
    assert np.array_equal(read_direction(tmp_path / "x.pt", Source(SHA, entry="smile")).vector, SMILE)


def test_dictionaries_of_numpy_and_safetensors(tmp_path: Path, tiny_models: dict[str, str]) -> None:
    np.savez(tmp_path / "x.npz", age=AGE, smile=SMILE.astype(np.float64))
    assert np.array_equal(read_direction(tmp_path / "x.npz", Source(SHA, entry="smile")).vector, SMILE)
    save_file({"age": torch.from_numpy(AGE), "smile": torch.from_numpy(SMILE)}, tmp_path / "x.safetensors")
    told = Source("", entry="age")
    direction = import_direction(tmp_path / "x.safetensors", tmp_path / "d", tiny_models["generator"], told)
    assert direction.name == "age" and np.array_equal(direction.vector, AGE)


def test_a_factorisation_as_a_large_array_is_read(tmp_path: Path) -> None:
    torch.save({"ckpt": "x.pt", "eigvec": np.eye(600, dtype=np.float32)}, tmp_path / "factor.pt")
    found = read_direction(tmp_path / "factor.pt", Source(SHA, component=7))
    assert np.array_equal(found.vector, np.eye(600)[7])


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.pt", "x"])
def test_a_pointer_is_named(name: str, tmp_path: Path) -> None:
    for content, meaning in ((POINTER, "a Git LFS pointer"), (b"<!DOCTYPE html>", "a web page"), (b"", "empty")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"is {meaning}"):
            read_direction(tmp_path / name, Source(SHA))


def test_lists_inside_themselves_again_and_again_cost_no_time(tmp_path: Path) -> None:
    nested: list[Any] = []
    for _ in range(50):
        nested = [nested, nested]
    torch.save(nested, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="holds list, not a tensor"):
        read_direction(tmp_path / "x.pt", Source(SHA))


def test_components_and_entries_are_not_mixed_up(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", AGE)
    with pytest.raises(ParamsError, match=r"x\.npy has no components"):
        read_direction(tmp_path / "x.npy", Source(SHA, component=0))
    torch.save({"eigvec": torch.eye(4)}, tmp_path / "x.pt")
    with pytest.raises(ParamsError, match=r"x\.pt has components: choose one by its number"):
        read_direction(tmp_path / "x.pt", Source(SHA, component=0, entry="0"))


def test_one_direction_never_replaces_another_silently(tmp_path: Path, tiny_models: dict[str, str]) -> None:
    torch.save(torch.from_numpy(SMILE), tmp_path / "smile.pt")
    np.save(tmp_path / "stylegan_ffhq_smile_w_boundary.npy", AGE[None])
    (tmp_path / "other").mkdir()
    torch.save(torch.from_numpy(AGE), tmp_path / "other" / "smile.pt")
    target, generator = tmp_path / "d.safetensors", tiny_models["generator"]
    import_direction(tmp_path / "smile.pt", target, generator, Source(""))
    before = file_sha256(target)
    for other in ("stylegan_ffhq_smile_w_boundary.npy", "other/smile.pt"):
        with pytest.raises(ParamsError, match=r"another direction 'smile' already \(imported from smile\.pt\)"):
            import_direction(tmp_path / other, target, generator, Source(""))
    with pytest.raises(ParamsError, match="say --name smile to replace it"):
        import_direction(tmp_path / "smile.pt", target, generator, Source("", layers=(0, 4)))
    import_direction(tmp_path / "smile.pt", target, generator, Source(""))
    assert file_sha256(target) == before, "the same once more changes nothing"
    import_direction(tmp_path / "other" / "smile.pt", target, generator, Source("", name="smile"))
    (kept,) = load_directions(target).model.values()
    assert np.array_equal(kept.vector, AGE)


def test_one_of_ours_is_chosen_and_renamed(tmp_path: Path, tiny_models: dict[str, str]) -> None:
    source, target, generator = tiny_models["directions"], tmp_path / "d.safetensors", tiny_models["generator"]
    with pytest.raises(ParamsError, match=r"has several directions: choose one with --entry \(smile, styles, yaw\)"):
        import_direction(source, target, generator, Source(""))
    import_direction(source, target, generator, Source("", name="yaw"))
    import_direction(source, target, generator, Source("", entry="yaw", name="turn"))
    first, again = (load_directions(target).model[name] for name in ("yaw", "turn"))
    assert torch.equal(first.vector, again.vector)
