"""Encoders in MLflow's model registry, and which of them is the champion."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gan_core.checkpoints.files import file_sha256, read_card
from gan_core.errors import CheckpointError, ParamsError
from tasks.tracking.client import client_of, mlflow_errors, pages
from tasks.tracking.names import model_name, own_model_name, shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHAMPION = "champion"
ENCODER = {"kind": "encoder"}
ENCODERS = "tags.kind = 'encoder'"
ALIAS = re.compile(r"(?!latest$|v\d+$)[\w-]{1,255}", re.IGNORECASE)
LONGEST_DESCRIPTION = 5000


class Registered(NamedTuple):
    """The newest version of an encoder in MLflow's registry; ``encoder`` is the architecture of what is at ``path``."""

    name: str
    version: str
    encoder: str
    path: str
    sha256: str


def register_encoder(name: str | None, path: str, uri: str, aliases: Sequence[str] = ()) -> Registered:
    """Make the checkpoint at ``path`` the newest version of ``name`` (that of its architecture if none).

    Its card becomes the description and the tags. Raises ``CheckpointError`` for a file that is no encoder's,
    ``ParamsError`` for an alias that MLflow doesn't take, and ``TrackingError``.
    """
    card, sha256 = read_card(path), file_sha256(path)
    if card.kind != "encoder":
        raise CheckpointError(f"{path} is a {card.kind}, not an encoder: name the file of an encoder")
    if refused := [alias for alias in aliases if not ALIAS.fullmatch(alias)]:
        raise ParamsError(f"alias {refused[0]!r}: write letters, digits, _ and -, and neither latest nor v1, v2, …")
    name, path = name or card.name, _portable(path)
    known = {encoder.name: encoder for encoder in registered_encoders(uri)}.get(name)
    with mlflow_errors(uri):
        client = client_of(uri)
        if known is None:
            client.create_registered_model(model_name(name), tags=ENCODER)
        if known is None or known.sha256 != sha256:
            tags = {
                "encoder": card.name,
                "path": path,
                "sha256": sha256,
                "generator_sha256": card.generator_sha256 or "",
            }
            source = path if "://" in path else f"dvc:///{path}"
            description = shorten(card.model_dump_json(indent=1), LONGEST_DESCRIPTION)
            made = client.create_model_version(model_name(name), source, tags=tags, description=description)
            known = Registered(name, str(made.version), card.name, path, sha256)
        for alias in aliases:
            client.set_registered_model_alias(model_name(name), alias, known.version)
    return known


def registered_encoders(uri: str) -> list[Registered]:
    """Return the newest version of every registered encoder, by name; raises ``TrackingError``."""
    with mlflow_errors(uri):
        client = client_of(uri)
        newest = [_newest(client, model) for model in pages(client.search_registered_models, ENCODERS)]
    return sorted(_registered(version) for version in newest if version is not None)


def set_champion(encoder: Registered, uri: str) -> None:
    """Give one version the alias ``champion``, and take it from every other encoder; raises ``TrackingError``."""
    with mlflow_errors(uri):
        client = client_of(uri)
        for model in _champions(client):
            if model.name != model_name(encoder.name):
                client.delete_registered_model_alias(model.name, CHAMPION)
        client.set_registered_model_alias(model_name(encoder.name), CHAMPION, encoder.version)


def champion(uri: str) -> Registered:
    """Return the encoder with the alias ``champion``; raises ``ParamsError`` if there is none, ``TrackingError``."""
    with mlflow_errors(uri):
        client = client_of(uri)
        for model in _champions(client):
            return _registered(client.get_model_version_by_alias(model.name, CHAMPION))
    raise ParamsError("encode.encoder: no champion yet; run `edit-dataset compare-encoders`, or name an encoder")


def _champions(client: "MlflowClient") -> "Iterator[RegisteredModel]":
    models: Iterator[RegisteredModel] = pages(client.search_registered_models, ENCODERS)
    return (model for model in list(models) if CHAMPION in model.aliases)


def _newest(client: "MlflowClient", model: "RegisteredModel") -> "ModelVersion | None":
    versions: Iterator[ModelVersion] = pages(client.search_model_versions, f'name="{model.name}"')
    return max(versions, key=lambda version: int(version.version), default=None)


def _registered(version: "ModelVersion") -> Registered:
    tags = version.tags
    return Registered(own_model_name(version.name), str(version.version), tags["encoder"], tags["path"], tags["sha256"])


def _portable(path: str) -> str:
    """Return a path inside the project as relative to it, so that a copy of the project finds its own file."""
    inside = "://" not in path and Path(path).absolute().is_relative_to(Path.cwd())
    return Path(path).absolute().relative_to(Path.cwd()).as_posix() if inside else path
