"""What a training resumes from, kept in one file that is whole or absent, and the running average of its weights."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Parts = Mapping[str, nn.Module | torch.optim.Optimizer]


def save_state(path: Path, parts: Parts, **values: Any) -> None:
    """Write the states of networks and optimisers, and plain values, atomically: a kill leaves the previous file."""
    temporary = path.with_suffix(".tmp")
    torch.save({name: part.state_dict() for name, part in parts.items()} | values, temporary)
    os.replace(temporary, path)


def load_state(path: Path, parts: Parts, key: str | None = None) -> dict[str, Any]:
    """Put back what ``save_state`` wrote and return the whole content of the file.

    Returns nothing, and leaves ``parts`` alone, if there is no file or it was saved with another value ``key``.
    """
    stored: dict[str, Any] = torch.load(path, weights_only=True) if path.exists() else {}
    if not stored or stored.get("key") != key:
        return {}
    for name, part in parts.items():
        part.load_state_dict(stored[name])
    return stored


def fingerprint(tensors: Mapping[str, Tensor]) -> float:
    """Return a number that other weights would not have: the sum of all magnitudes."""
    return sum(value.double().abs().sum().item() for value in tensors.values())


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every floating tensor of ``average``, statistics of the batch normalisation included, towards ``model``."""
    for slow, fast in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - decay)
        else:
            slow.copy_(fast)
