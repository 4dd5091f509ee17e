"""Encoders in MLflow's model registry, and which of them is the champion."""

from collections.abc import Sequence
from typing import NamedTuple

from gan_core.checkpoints.files import file_sha256, read_card
from gan_core.errors import CheckpointError, ParamsError
from tasks.tracking.client import client_of, mlflow_errors

CHAMPION = "champion"
ENCODER = {"kind": "encoder"}


class Registered(NamedTuple):
    """The newest version of an encoder in MLflow's registry; ``encoder`` is the architecture of what is at ``path``."""

    name: str
    version: str
    encoder: str
    path: str
    sha256: str


def register_encoder(name: str | None, path: str, uri: str, aliases: Sequence[str] = ()) -> Registered:
    """Make the checkpoint at ``path`` the newest version of ``name`` (that of its architecture if none).

    Its card becomes the description and the tags. Raises ``CheckpointError`` for a file that is no encoder's, and
    ``TrackingError``.
    """
    card, sha256 = read_card(path), file_sha256(path)
    if card.kind != "encoder":
        raise CheckpointError(f"{path} is a {card.kind}, not an encoder: name the file of an encoder")
    name = name or card.name
    known = {encoder.name: encoder for encoder in registered_encoders(uri)}.get(name)
    with mlflow_errors(uri):
        client = client_of(uri)
        if known is None:
            client.create_registered_model(name, tags=ENCODER)
        if known is None or known.sha256 != sha256:
            tags = {
                "encoder": card.name,
                "path": path,
                "sha256": sha256,
                "generator_sha256": card.generator_sha256 or "",
            }
            source = path if "://" in path else f"dvc:///{path}"
            made = client.create_model_version(name, source, tags=tags, description=card.model_dump_json(indent=1))
            known = Registered(name, str(made.version), card.name, path, sha256)
        for alias in aliases:
            client.set_registered_model_alias(name, alias, known.version)
    return known


def registered_encoders(uri: str) -> list[Registered]:
    """Return the newest version of every registered encoder, by name; raises ``TrackingError``."""
    found = []
    with mlflow_errors(uri):
        client = client_of(uri)
        for model in client.search_registered_models("tags.kind = 'encoder'"):
            version = max(
                client.search_model_versions(f"name='{model.name}'"), key=lambda v: int(v.version), default=None
            )
            if version is not None:
                tags = version.tags
                found.append(
                    Registered(model.name, str(version.version), tags["encoder"], tags["path"], tags["sha256"])
                )
    return sorted(found)


def set_champion(encoder: Registered, uri: str) -> None:
    """Give one version the alias ``champion``, and take it from every other encoder; raises ``TrackingError``."""
    with mlflow_errors(uri):
        client = client_of(uri)
        for model in client.search_registered_models("tags.kind = 'encoder'"):
            if model.name != encoder.name and CHAMPION in model.aliases:
                client.delete_registered_model_alias(model.name, CHAMPION)
        client.set_registered_model_alias(encoder.name, CHAMPION, encoder.version)


def champion(uri: str) -> Registered:
    """Return the encoder with the alias ``champion``; raises ``ParamsError`` if there is none, ``TrackingError``."""
    with mlflow_errors(uri):
        client = client_of(uri)
        for model in client.search_registered_models("tags.kind = 'encoder'"):
            if CHAMPION in model.aliases:
                version = client.get_model_version_by_alias(model.name, CHAMPION)
                tags = version.tags
                return Registered(model.name, str(version.version), tags["encoder"], tags["path"], tags["sha256"])
    raise ParamsError("encode.encoder: no champion yet; run `edit-dataset compare-encoders`, or name an encoder")
