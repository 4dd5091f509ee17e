"""Tensors in dlib's serialised networks: only numbers are read, and nothing of a file is executed.

A layer's name is followed by its tensor: a version, four sizes and the float32 values. Integers are one byte that says
how many follow (and 128 for a negative one), then these bytes, the lowest first.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_core.errors import CheckpointError

LAYER = re.compile(rb"\x05(con_)\d|\x07(affine_)\x01|\x04(fc_)\d")
"""The length of a layer's name, and the name; the version of a layer is part of it, except for the affine one."""
VERSION = 2


def read_layers(path: str | Path) -> list[tuple[str, Tensor]]:
    """Return the layers that have parameters, from the input on: ``con``, ``affine`` or ``fc``, with all parameters.

    Raises ``CheckpointError`` if the file holds no such network.
    """
    data = Path(path).read_bytes()
    layers, at = [], 0
    while match := LAYER.search(data, at):
        name = next(group for group in match.groups() if group).decode().rstrip("_")
        at = match.end() - (name == "affine")
        try:
            for _ in range(2 if name == "fc" else 0):  # the numbers of outputs and inputs
                at = _integer(data, at)[1]
            values, at = _tensor(data, at)
        except (IndexError, ValueError):
            raise CheckpointError(f"{path} is damaged at byte {at}: install the package again") from None
        layers.append((name, values))
    if not layers:
        raise CheckpointError(f"{path} holds no network that dlib wrote: install the package again")
    return layers


def _tensor(data: bytes, at: int) -> tuple[Tensor, int]:
    """Read the tensor at a position, and return its values, flat, with the position behind it."""
    version, at = _integer(data, at)
    sizes = []
    for _ in range(4):
        size, at = _integer(data, at)
        sizes.append(size)
    count = int(np.prod(sizes))
    if version != VERSION or not 0 < 4 * count <= len(data) - at:
        raise ValueError("not a tensor")
    return torch.from_numpy(np.frombuffer(data, "<f4", count, at).astype(np.float32)), at + 4 * count


def _integer(data: bytes, at: int) -> tuple[int, int]:
    count = data[at] & 15
    value = int.from_bytes(data[at + 1 : at + 1 + count], "little")
    return -value if data[at] & 128 else value, at + 1 + count
