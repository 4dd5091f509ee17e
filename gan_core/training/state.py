"""What a training resumes from, kept in one file that is whole or absent, and the running average of its weights."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gan_core.device import place


class Resumable:
    """Everything that one training resumes from.

    ``kept`` names the attributes that are stored: networks and optimisers by their state, all else as it is. ``key``
    stands for what the training was begun with, ``seen`` counts the images, ``seconds`` those that steps have taken.
    """

    kept: ClassVar[tuple[str, ...]]
    key: str
    seen: int
    seconds: float = 0.0

    def averaged(self) -> tuple[nn.Module, nn.Module] | tuple[None, None]:
        """Return the running average, if there is one, and the network that it follows."""
        return None, None

    def place(self, training: bool) -> None:
        """Bring all networks but the running average into training or evaluation mode."""
        average, _ = self.averaged()
        for part in (getattr(self, name) for name in self.kept):
            if isinstance(part, nn.Module) and part is not average:
                part.train(training)

    def save(self, path: Path) -> None:
        """Write atomically: a kill leaves the previous file, and any device can go on from it."""
        values = {name: getattr(self, name) for name in (*self.kept, "key")}
        temporary = path.with_suffix(".tmp")
        kept = {n: v.state_dict() if hasattr(v, "state_dict") else v for n, v in values.items()}
        torch.save(to_host(kept), temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        """Continue from a file written by ``save``, if there is one of the same ``key``."""
        stored = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {}
        if stored.get("key") != self.key:
            return
        for name in self.kept:
            part = getattr(self, name)
            if hasattr(part, "load_state_dict"):
                part.load_state_dict(stored[name])
            else:
                value = stored[name]
                setattr(self, name, place(value) if isinstance(value, Tensor) else value)


def to_host(value: Any) -> Any:
    """Return what is nested of tensors ``[...]`` and other values, the tensors on the CPU."""
    if isinstance(value, Mapping):
        return {name: to_host(item) for name, item in value.items()}
    if isinstance(value, list):
        return [to_host(item) for item in value]
    return value.cpu() if isinstance(value, Tensor) else value


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of all values in the order of their names, which other weights or pictures do not have."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move every floating tensor of ``average``, statistics of the batch normalisation included, towards ``model``."""
    for slow, fast in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - decay)
        else:
            slow.copy_(fast)
