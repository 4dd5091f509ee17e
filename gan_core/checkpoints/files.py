"""Checkpoint files: safetensors with a card inside, written whole or not at all, refused in one sentence."""

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import fsspec
import torch
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gan_core.errors import CheckpointError
from gan_core.storage.atomic import write_bytes
from gan_core.storage.urls import hash_file

HALF_MAX = 65504.0
PLACEHOLDERS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file: run `git lfs pull` or download it again",
    b"<!doctype": "a web page, not a checkpoint: the download needs a log-in or the address is wrong",
    b"<html": "a web page, not a checkpoint: the download needs a log-in or the address is wrong",
    b"outs:": "a DVC pointer, not the file: name the path without `.dvc` and run `dvc pull`",
}
PICKLES = {
    b"pk\x03\x04": "a PyTorch pickle: convert it with `edit-dataset checkpoints import`",
    b"\x80": "a Python pickle, which is never opened here: convert it with `edit-dataset checkpoints import`",
}


class Card(BaseModel):
    """What a checkpoint holds and where it comes from.

    ``name`` is the registry name of the module (family, architecture) and ``arguments`` rebuild it. ``space`` is the
    latent space it writes to, ``generator_sha256`` the hash of the generator file it was made for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["generator", "encoder", "network", "directions", "paths"]
    name: str
    arguments: dict[str, Any] = {}
    space: str | None = None
    generator_sha256: str | None = None
    made_by: str
    licence: str
    source: str
    notes: str = ""
    extra: dict[str, Any] = {}

    @field_validator("arguments", mode="before")
    @classmethod
    def _restore_integer_keys(cls, arguments: Any) -> Any:
        return _integer_keys(arguments)


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], card: Card, half: bool = True) -> str:
    """Write tensors and card as one safetensors file and return its sha256.

    With ``half`` float32 tensors are stored as float16, except those with values beyond its range. The file appears
    whole or not at all. Raises ``CheckpointError`` for a tensor with NaN or infinity, ``DataError`` if it can't write.
    """
    stored = {key: _storable(key, tensor, half) for key, tensor in tensors.items()}
    return write_bytes(path, save(stored, metadata={"card": card.model_dump_json()}))


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], Card]:
    """Read all tensors of a checkpoint (floating ones as float32) and its card; raises ``CheckpointError``."""
    card = read_card(path)
    with _opened(path) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return {key: t.float() if t.is_floating_point() else t for key, t in tensors.items()}, card


def read_card(path: str | Path) -> Card:
    """Read only the card of a checkpoint; raises ``CheckpointError`` if the file is missing, damaged or cardless."""
    with _opened(path) as file:
        text = (file.metadata() or {}).get("card")
    if text is None:
        raise CheckpointError(f"{path} has no card: write it with gan_core.loading.save_checkpoint")
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise CheckpointError(f"the card of {path} can't be read ({problems}): save the checkpoint again") from None


def file_sha256(path: str | Path) -> str:
    """Return the hex sha256 of a checkpoint, remembered while the file stays unchanged; raises ``CheckpointError``."""
    return hash_file(_local(path))


def _opened(path: str | Path) -> Any:
    local = _local(path)
    try:
        return safe_open(local, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is {_damage(local, error)}") from None


def _local(path: str | Path) -> Path:
    if "://" not in str(path):
        local = Path(path)
        if not local.is_file():
            raise CheckpointError(_missing(local))
        return local
    try:
        return _fetched(str(path))
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint at {path}: check the address and the credentials of its store") from None


@lru_cache(maxsize=64)
def _fetched(url: str) -> Path:
    return Path(fsspec.open_local(url if url.startswith("file://") else f"simplecache::{url}"))


def _missing(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder: name the checkpoint file in it"
    return f"no checkpoint at {path}: fetch it with `dvc pull {path}`, or make it with `dvc repro {path}`"


def placeholder(path: Path, signatures: dict[bytes, str] = PLACEHOLDERS) -> str | None:
    """Say what a file is that stands where a checkpoint should be (empty, a pointer, a web page), or ``None``."""
    with open(path, "rb") as file:
        start = file.read(64).lstrip().lower()
    if not start:
        return "empty: fetch it again (`dvc pull --force`)"
    return next((meaning for signature, meaning in signatures.items() if start.startswith(signature)), None)


def _damage(path: Path, error: Exception) -> str:
    damaged = f"not a whole safetensors file ({' '.join(str(error).split())}): fetch it again (`dvc pull --force`)"
    with open(path, "rb") as file:
        has_header = file.read(9)[8:] == b"{"  # after its length, whose first byte may be that of a pickle
    return placeholder(path, PLACEHOLDERS if has_header else PLACEHOLDERS | PICKLES) or damaged


def _storable(key: str, tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor.clone()
    if not tensor.isfinite().all():
        raise CheckpointError(f"{key} has NaN or infinite values: the training diverged, so this is not saved")
    fits = half and (tensor.numel() == 0 or tensor.abs().max() <= HALF_MAX)
    return tensor.to(torch.float16 if fits else torch.float32, copy=True)


def _integer_keys(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {int(k) if isinstance(k, str) and k.isdigit() else k: _integer_keys(v) for k, v in value.items()}
