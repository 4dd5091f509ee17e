"""Arrays in the files of others, ``.npy``, ``.npz`` and ``.pt``: read without unpickling anything."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.errors import CheckpointError


def read_arrays(path: str | Path) -> Any:
    """A tensor, a list of tensors, or a dictionary with tensors in it; raises ``CheckpointError`` for all else."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no directions at {path}: name the file")
    if path.suffix == ".npy":
        return torch.from_numpy(_plain(path))
    if path.suffix == ".npz":
        return {key: torch.from_numpy(value) for key, value in _plain(path).items()}
    content = open_checkpoint(path).load()
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else [content]
    if not any(isinstance(part, Tensor) for part in parts):
        raise CheckpointError(
            f"{path} holds {type(content).__name__}, not a tensor: no direction file known here is like it"
        )
    return content


def _plain(path: Path) -> Any:
    try:
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            return stored.astype(np.float32)
        with stored:
            return {key: stored[key].astype(np.float32) for key in stored.files if stored[key].dtype.kind in "fiu"}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "pickle" in str(error):
            raise CheckpointError(f"{path} is refused: it holds pickled objects, which are never opened here") from None
        raise CheckpointError(f"{path} is not a whole numpy file ({error})") from None
