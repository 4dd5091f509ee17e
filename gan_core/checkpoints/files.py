"""Checkpoint files: safetensors with a card in the metadata, written atomically, with one-line errors for bad files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import fsspec
import torch
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from gan_core.errors import CheckpointError, UserError
from gan_core.registry import Arguments
from gan_core.secrets import hide
from gan_core.storage.atomic import write_bytes
from gan_core.storage.names import check_path
from gan_core.storage.urls import explain_denied, hash_file

HALF_MAX = 65504.0
"""The largest float16."""
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

T = TypeVar("T")
U = TypeVar("U")


class Card(BaseModel):
    """Describes the content and origin of a checkpoint.

    ``name`` is the registry name of the module (family, architecture), and ``arguments`` are those of its constructor.
    ``space`` is the latent space of its codes, and ``generator_sha256`` the hash of the generator file it belongs to.
    ``extra`` has other JSON-able values, such as scores.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["generator", "encoder", "network", "directions", "paths", "hypernetwork", "features"]
    name: str
    arguments: Arguments = {}
    space: str | None = None
    generator_sha256: str | None = None
    made_by: str
    licence: str
    source: str
    notes: str = ""
    extra: Mapping[str, Any] = {}

    @field_validator("arguments", mode="before")
    @classmethod
    def _restore_integer_keys(cls, arguments: object) -> object:
        return _integer_keys(arguments)


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """The content of the checkpoint at ``path``; ``sha256`` is the hash of the bytes that ``model`` was read from."""

    model: T
    sha256: str
    card: Card
    path: str

    def with_model(self, model: U) -> "Loaded[U]":
        """Return this file with ``model``, which was built from its content."""
        return Loaded(model, self.sha256, self.card, self.path)

    def check_made_for(self, generator: "Loaded[Any]", advice: str) -> None:
        """Raise ``CheckpointError``, ending with ``advice``, if the card names another generator than this one."""
        made_for = self.card.generator_sha256
        if made_for not in (None, generator.sha256):
            raise CheckpointError(
                f"{self.path} was made for the generator {str(made_for)[:12]}, not for {generator.path} "
                f"({generator.sha256[:12]}): {advice}"
            )


def save_checkpoint(path: str | Path, tensors: dict[str, Tensor], card: Card, half: bool = True) -> str:
    """Write tensors ``[...]`` by name and a card as one safetensors file, atomically, and return its sha256.

    With ``half`` float32 tensors are stored as float16, except those with values beyond its range. Raises
    ``CheckpointError`` for a tensor with NaN or infinity, and ``DataError`` if the file can't be written.
    """
    stored = {key: _storable(key, tensor, half) for key, tensor in tensors.items()}
    return write_bytes(path, save(stored, metadata={"card": card.model_dump_json()}))


def load_checkpoint(path: str | Path) -> Loaded[dict[str, Tensor]]:
    """Return the tensors ``[...]`` of a checkpoint by name, floating ones as float32, with its card and its hash.

    The file is read once. Raises ``CheckpointError`` if it is missing, damaged or has no card.
    """
    stored = _read(path)
    tensors: dict[str, Tensor] = {}
    for key in list(stored.model):
        tensor = stored.model.pop(key)  # freed after its conversion, so that memory never holds all tensors twice
        tensors[key] = tensor.float() if tensor.is_floating_point() else tensor
    return stored.with_model(tensors)


def read_card(path: str | Path) -> Card:
    """Return the card of a checkpoint; raises ``CheckpointError`` if the file is missing, damaged or has no card."""
    local = local_copy(path)
    try:
        with safe_open(local, framework="pt") as file:
            return parse_card(path, file.metadata())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is {_damage(local, error)}") from None


def find_card(path: str | Path) -> Card | None:
    """Return the card of what is at ``path``, None for a file that has none or can't be read."""
    try:
        return read_card(path)
    except UserError:
        return None


def parse_card(path: str | Path, metadata: Mapping[str, str] | None) -> Card:
    """Return the card in the metadata of a file; raises ``CheckpointError`` if it is missing or invalid."""
    text = (metadata or {}).get("card")
    if text is None:
        raise CheckpointError(
            f"{path} has no card, so this project didn't write it: convert it with `edit-dataset checkpoints import`"
        )
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise CheckpointError(f"the card of {path} can't be read ({problems}): save the checkpoint again") from None


def local_copy(path: str | Path) -> Path:
    """Return the path of a checkpoint on this machine, of which one at an address is a copy.

    Raises ``CheckpointError`` if there is no file.
    """
    if "://" not in str(path):
        check_path(str(path))
        local = Path(path)
        if not local.is_file():
            raise CheckpointError(_missing(local))
        return local
    try:
        return _fetched(str(path))
    except FileNotFoundError:
        raise CheckpointError(
            f"no checkpoint at {hide(str(path))}: check the address and the credentials of its store"
        ) from None


def file_sha256(path: str | Path) -> str:
    """Return the hex sha256 of a checkpoint, cached while the file is unchanged.

    Raises ``CheckpointError`` if there is no file.
    """
    return hash_file(local_copy(path))


def _read(path: str | Path) -> Loaded[dict[str, Tensor]]:
    """Read the tensors as they are stored; the bytes of the file are freed on return."""
    local = local_copy(path)
    with explain_denied(path):
        data = local.read_bytes()
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is {_damage(local, error)}") from None
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return Loaded(tensors, sha256(data).hexdigest(), parse_card(path, header.get("__metadata__")), str(path))


@lru_cache(maxsize=64)
def _fetched(url: str) -> Path:
    place = url if url.startswith("file://") else f"simplecache::{url}"
    (path,) = fsspec.open_local([place], expand=False)  # "?" is no wildcard
    return Path(path)


def _missing(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder: name the checkpoint file in it"
    return f"no checkpoint at {path}: {how_to_get(path)}"


def how_to_get(path: str | Path) -> str:
    """Say how a missing checkpoint is got: by DVC if the pipeline here makes it or a ``.dvc`` file names it."""
    if stage := _dvc_stage(str(path)):
        return f"fetch it with `dvc pull {path}`, or make it with `dvc repro {stage}`"
    if Path(f"{path}.dvc").is_file():
        return f"fetch it with `dvc pull {path}`"
    return "check the path; `edit-dataset checkpoints list` says which published ones can be converted"


def _dvc_stage(path: str) -> str | None:
    """Return the stage in this folder's ``dvc.lock`` that makes a file, if one does."""
    lock = Path("dvc.lock").absolute()
    try:
        return _makers(lock, lock.stat().st_mtime_ns).get(path)
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError):
        return None


@lru_cache(maxsize=1)
def _makers(lock: Path, _changed: int) -> dict[str, str]:
    """Return the stage that makes each output; with PyYAML's loader in Python our file takes a third of a second."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    stages = loader(lock.read_text()).get_single_data()["stages"]
    return {out["path"]: name for name, stage in stages.items() for out in stage.get("outs", [])}


def placeholder(path: Path, signatures: dict[bytes, str] = PLACEHOLDERS) -> str | None:
    """Return what a file is if it is only a placeholder (empty, a pointer, a web page), else ``None``."""
    with explain_denied(path), open(path, "rb") as file:
        start = file.read(64).lstrip().lower()
    if not start:
        return "empty: fetch it again (`dvc pull --force`)"
    return next((meaning for signature, meaning in signatures.items() if start.startswith(signature)), None)


def _damage(path: Path, error: Exception) -> str:
    damaged = f"not a whole safetensors file ({' '.join(str(error).split())}): fetch it again (`dvc pull --force`)"
    with explain_denied(path), open(path, "rb") as file:
        has_header = file.read(9)[8:] == b"{"  # after 8 bytes of length, which may look like the start of a pickle
    return placeholder(path, PLACEHOLDERS if has_header else PLACEHOLDERS | PICKLES) or damaged


def _storable(key: str, tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point():
        return tensor.clone()
    if not tensor.isfinite().all():
        raise CheckpointError(f"{key} has NaN or infinite values: the training diverged, so this is not saved")
    fits = half and (tensor.numel() == 0 or tensor.abs().max() <= HALF_MAX)
    return tensor.to(torch.float16 if fits else torch.float32, copy=True)


def _integer_keys(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {int(k) if isinstance(k, str) and k.isdigit() else k: _integer_keys(v) for k, v in value.items()}
