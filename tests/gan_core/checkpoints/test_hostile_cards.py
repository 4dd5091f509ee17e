"""Hostile checkpoints and directions: read, or refused in one short line and in bounded time and memory."""

import io
import json
import random
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from benchmarks.hostile_files import mutate, saved, state, whole_files
from gan_core.checkpoints.arrays import read_arrays
from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import Card, load_checkpoint, save_checkpoint
from gan_core.checkpoints.stored import Refused, check_numbers, row_major
from gan_core.editing.directions import load_directions
from gan_core.errors import MAX_LETTERS, CheckpointError, UserError
from gan_core.loading import load_generator

ARGUMENTS = {"size": 8, "style_dim": 4, "n_mlp": 2, "channels": {4: 6, 8: 5}}
SECONDS = 10


def described(path: Path, kind: Any = "generator", **about: Any) -> Path:
    """A checkpoint of a very small StyleGAN2 with a card of these values."""
    values = {"name": "stylegan2", "made_by": "tests", "licence": "", "source": ""} | about
    save_checkpoint(path, state() | {"latent_avg": torch.zeros(4)}, Card(kind=kind, **values))
    return path


def is_short(error: UserError) -> bool:
    """Whether a message is one line of letters that a terminal can show."""
    return len(str(error)) <= MAX_LETTERS and str(error).isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_mlp": 10_000_000},
        {"n_mlp": 1_000_000},
        {"style_dim": 100_000},
        {"style_dim": 10**400},
        {"n_mlp": -(10**30)},
        {"channels": {4: 60_000, 8: 60_000}},
        {"n_mlp": "x"},
        {"size": [1, [2]]},
        {"size": 0},
        {"channels": {}},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_card_that_describes_another_module_is_one_line(tmp_path: Path, arguments: dict[str, Any]) -> None:
    path = described(tmp_path / "g.safetensors", arguments=ARGUMENTS | arguments)
    begin = time.process_time()
    with pytest.raises(CheckpointError, match=r"g\.safetensors") as refused:
        load_generator(path)
    assert is_short(refused.value) and time.process_time() - begin < SECONDS


def test_a_good_card_builds_its_module(tmp_path: Path) -> None:
    loaded = load_generator(described(tmp_path / "g.safetensors", arguments=ARGUMENTS)).model
    assert torch.allclose(dict(loaded.state_dict())["style.1.weight"], state()["style.1.weight"], rtol=1e-3)


def test_an_empty_tensor_is_loaded(tmp_path: Path) -> None:
    for name, data in (("a", save({"x": torch.zeros(0, 3)})), ("b", saved({"x": torch.zeros(0, 3)}))):
        (tmp_path / name).write_bytes(data)
        content = open_checkpoint(tmp_path / name).load()
        assert isinstance(content, dict) and content["x"].shape == (0, 3)


def header(tensors: object) -> bytes:
    """A safetensors file with any header, and four bytes of data."""
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + bytes(4)


@pytest.mark.parametrize(
    "shape", [[1] * 20_000, [10**4000] * 3, [10**400], [-1], [1.0], ["1"], [True], [[1]], 7], ids=lambda s: str(s)[:12]
)
def test_any_shape_is_refused_at_once(tmp_path: Path, shape: object) -> None:
    (tmp_path / "x").write_bytes(header({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}))
    begin = time.process_time()
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(tmp_path / "x")
    assert is_short(refused.value) and time.process_time() - begin < 2


def test_strides_take_time_by_their_number_only() -> None:
    assert row_major((2, 3, 4)) == (12, 4, 1)
    for check in (row_major, check_numbers):
        with pytest.raises(Refused, match="of 20000 dimensions"):
            check((1,) * 20_000)


@pytest.mark.parametrize("metadata", [5, [], "card", {"card": 1}, {"card": "{}"}, {"card": "[" * 100_000}], ids=str)
def test_any_metadata_is_one_line(tmp_path: Path, metadata: object) -> None:
    (tmp_path / "x").write_bytes(header({"__metadata__": metadata}))
    with pytest.raises(CheckpointError) as refused:
        _ = open_checkpoint(tmp_path / "x").card
        raise CheckpointError("there is no card in it")
    assert is_short(refused.value)
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(tmp_path / "x")
    assert is_short(refused.value)


DESCRIPTIONS: list[Any] = [None, [], {"a": 1}, {"a": {"range": [1]}}, {"a": {"range": [-1, 1], "layers": 3}}]


@pytest.mark.parametrize("found", DESCRIPTIONS, ids=str)
def test_directions_that_are_not_described_are_one_line(tmp_path: Path, found: Any) -> None:
    extra = {} if found is None else {"directions": found}
    card = Card(kind="directions", name="d", generator_sha256="0", made_by="", licence="", source="", extra=extra)
    save_checkpoint(tmp_path / "d.safetensors", {"a": torch.ones(4)}, card)
    with pytest.raises(CheckpointError, match="doesn't describe its directions") as refused:
        load_directions(tmp_path / "d.safetensors")
    assert is_short(refused.value)


def numpy_file(array: Any, **parts: Any) -> bytes:
    """The bytes of a ``.npy`` file, with parts of its header replaced."""
    file = io.BytesIO()
    np.save(file, array)
    data = file.getvalue()
    for old, new in parts.values():
        data = data.replace(old, new)
    return data


def bomb() -> bytes:
    """An archive of 2 MB whose array would fill 2 GB."""
    file = io.BytesIO()
    archive = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("a.npy", "w", force_zip64=True) as part:
        part.write(numpy_file(np.zeros(0, np.int8), size=(b"(0,)", b"(2147483648,)")))
        for _ in range(2048):
            part.write(bytes(1 << 20))
    return file.getvalue()


ARRAYS: dict[str, Callable[[], bytes]] = {
    "more.npy": lambda: numpy_file(np.zeros(4, np.float32), shape=(b"(4,)", b"(4000000000000,)")),
    "times.npy": lambda: numpy_file(np.zeros(2, "datetime64[s]")),
    "fields.npy": lambda: numpy_file(np.zeros(2, [("a", "f4"), ("b", "i4")])),
    "texts.npy": lambda: numpy_file(np.array(["a", "b"])),
    "header.npy": lambda: numpy_file(np.zeros(4), descr=(b"'descr'", b"'descr'\x00")),
    "empty.npz": lambda: b"PK\x05\x06" + bytes(18),
    "none.npy": lambda: b"",
}


@pytest.mark.parametrize("name", ARRAYS)
def test_hostile_arrays_are_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(ARRAYS[name]())
    try:
        content = read_arrays(tmp_path / name)
    except CheckpointError as error:
        assert is_short(error)
    else:
        assert name == "empty.npz" and content == {}


@pytest.mark.slow
def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb.npz").write_bytes(bomb())
    with pytest.raises(CheckpointError, match="would fill 2048 MiB"):
        read_arrays(tmp_path / "bomb.npz")


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.sampled_from(sorted(whole_files())), st.integers(0, 1 << 30))
def test_any_damage_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str, seed: int) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(mutate(whole_files()[name], random.Random(seed)))
    for read in (lambda: open_checkpoint(path).load(), lambda: load_checkpoint(path)):
        try:
            read()
        except CheckpointError as error:
            assert is_short(error)
