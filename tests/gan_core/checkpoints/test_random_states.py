"""States of random number generators, stored beside the weights, don't keep a checkpoint from being read."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.errors import CheckpointError

STATES: dict[str, Any] = {
    "numpy": np.random.RandomState(3).get_state(),
    "numpy, by name": np.random.RandomState(3).get_state(legacy=False),
    "PCG64": np.random.default_rng(5).bit_generator.state,
    "128 bits": {"state": 2**128 - 1, "inc": -(2**127)},
    "Philox": np.random.Philox(7).state,
    "Python": random.Random(1).getstate(),
    "torch": torch.get_rng_state(),
}


def plain(value: Any) -> Any:
    """Arrays and tensors as lists."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(v) for v in value] if isinstance(value, tuple | list) else np.asarray(value).tolist()


@pytest.mark.parametrize("name", STATES)
def test_every_state_is_read(name: str, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "state": STATES[name]}, tmp_path / "x.pt")
    content: Any = open_checkpoint(tmp_path / "x.pt").load()
    assert plain(content["state"]) == plain(STATES[name])


@pytest.mark.parametrize("kind", ["u2", "u4", "u8", "i2", "i4", "i8", "u1"])
def test_integers_of_every_width_are_read(kind: str, tmp_path: Path) -> None:
    limits = np.iinfo(kind)
    values = np.array([limits.min, 1, limits.max], kind)
    torch.save({"many": values, "one": values[2]}, tmp_path / "x.pt")
    content: Any = open_checkpoint(tmp_path / "x.pt").load()
    assert np.array_equal(content["many"].numpy(), values) and content["one"] == limits.max
    save_file({"many": values}, tmp_path / "x.safetensors")
    assert np.array_equal(open_checkpoint(tmp_path / "x.safetensors").load()["many"].numpy(), values)  # type: ignore[index]


def test_what_is_no_number_is_refused_with_the_reason(tmp_path: Path) -> None:
    torch.save({"w": np.array([1j])}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="numpy values that are neither booleans, integers nor floats"):
        open_checkpoint(tmp_path / "x.pt")
    header = b'{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}'
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(CheckpointError, match="tensors of the type F4, which is not read"):
        open_checkpoint(tmp_path / "x.safetensors")
