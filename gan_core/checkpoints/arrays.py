"""Read arrays from published ``.npy``, ``.npz``, ``.pt`` and ``.safetensors`` files without unpickling anything."""

import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import placeholder
from gan_core.errors import CheckpointError

MAX_ARRAY_BYTES = 1 << 30
"""More than any published file of directions has."""
_DAMAGE = (
    *(ValueError, TypeError, OSError, EOFError, KeyError, SyntaxError, RuntimeError, OverflowError, RecursionError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),  # numpy reads headers as Python's literals
)
Arrays = Tensor | Sequence[object] | Mapping[str, object]
"""A tensor ``[...]``, or a list or a dictionary with at least one tensor in it, at whatever depth."""
NUMPY = b"\x93NUMPY"


def read_arrays(path: str | Path) -> Arrays:
    """Return the content of a file: tensors ``[...]`` of any shape, float32 if they come from a numpy file.

    What kind of file it is follows from its first bytes. Raises ``CheckpointError`` for a missing or damaged file, a
    placeholder such as a Git LFS pointer, pickled objects in a numpy file, and other content.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no directions at {path}: name the file")
    if meaning := placeholder(path):
        raise CheckpointError(f"{path} is {meaning}")
    if path.suffix in (".npy", ".npz") or _is_numpy(path):
        return _read_numpy(path)
    content = open_checkpoint(path).load()
    if not isinstance(content, Tensor | dict | list | tuple) or not any(named_arrays(content)):
        raise CheckpointError(
            f"{path} holds {type(content).__name__}, not a tensor: no direction file known here is like it"
        )
    return content


def named_arrays(content: object) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors ``[...]`` in a content with their names: keys and numbers in lists, joined by dots.

    A container that lies in several places is entered once.
    """
    waiting, seen = [("", content)], set[int]()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += reversed([(f"{name}.{key}" if name else str(key), part) for key, part in parts])


def _is_numpy(path: Path) -> bool:
    with open(path, "rb") as file:
        if file.read(len(NUMPY)) == NUMPY:
            return True
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except _DAMAGE:  # opening it as a checkpoint says what is wrong
        return False


def _read_numpy(path: Path) -> Arrays:
    try:
        _check_size(path)
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            if stored.dtype.kind not in "fiu":
                raise ValueError(f"it holds {stored.dtype}, not numbers")
            return _as_float(stored)
        with stored:
            arrays = {key: stored[key] for key in stored.files}
        return {key: _as_float(array) for key, array in arrays.items() if array.dtype.kind in "fiu"}
    except MemoryError:
        raise CheckpointError(f"{path} is refused: it needs more memory than there is to be read") from None
    except _DAMAGE as error:
        if "pickle" not in str(error):
            raise CheckpointError(
                f"{path} is not a whole numpy file ({str(error)[:200]}): make or fetch it again"
            ) from None
        if not _is_numpy(path) and not path.read_bytes().startswith(b"\x80"):  # numpy takes all that for a pickle
            raise CheckpointError(
                f"{path} is not a numpy file, though its name ends in {path.suffix}: make or fetch it again"
            ) from None
        raise CheckpointError(f"{path} is refused: it holds pickled objects, which are never opened here") from None


def _as_float(array: np.ndarray) -> Tensor:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is told when it is used
        return torch.from_numpy(array.astype(np.float32))


def _check_size(path: Path) -> None:
    """Raise ``CheckpointError`` for an archive whose parts would fill far more than it has itself: directions don't."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            written = sum(part.file_size for part in archive.infolist())
        if written > MAX_ARRAY_BYTES:
            raise CheckpointError(f"{path} is refused: its arrays would fill {written >> 20} MiB")
