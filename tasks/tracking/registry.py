"""Checkpoints in MLflow's model registry, and which encoder is the champion."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gan_core.checkpoints.files import Card, file_sha256, read_card
from gan_core.errors import CheckpointError, ParamsError
from gan_core.params import TrackParams
from tasks.tracking.client import TrackingError, client_of, experiment_of, mlflow_errors, pages, user
from tasks.tracking.names import LONGEST_RUN_NAME, model_name, own_model_name, shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHAMPION = "champion"
KINDS = ("encoder", "generator", "directions")
"""Of checkpoints that MLflow takes as models; nights measure the encoders."""
ENCODERS = "tags.kind = 'encoder'"
ALIAS = re.compile(r"(?!latest$|v\d+$)[\w-]{1,255}", re.IGNORECASE)
LONGEST_DESCRIPTION = 5000
MODEL_ID = "model.id"
"""The tag of a version with the id of its logged model, which MLflow's SQL stores don't give back."""
OURS = frozenset({"encoder", "path", "sha256"})
"""Tags that every version has that a command here made; MLflow's own page makes versions without them."""
DEFAULT_EXPERIMENT: str = TrackParams().experiment


class Registered(NamedTuple):
    """The newest version of a checkpoint in MLflow's registry; ``encoder`` is the architecture of the ``path``."""

    name: str
    version: str
    encoder: str
    path: str
    sha256: str


class NameTakenError(TrackingError):
    """A registered model of another kind has the name: another name helps."""


def register_checkpoint(
    name: str | None, path: str, uri: str, aliases: Sequence[str] = (), experiment: str = DEFAULT_EXPERIMENT
) -> Registered:
    """Make the checkpoint at ``path`` the newest version of ``name`` (that of its architecture if none).

    The file is logged as a model of a run in ``experiment``, so that MLflow loads and serves it, and its card becomes
    the description and the tags. Raises ``CheckpointError`` for a file of another kind, ``ParamsError`` for an alias
    that MLflow doesn't take, and ``TrackingError``, for a name that something else has too.
    """
    card, sha256 = read_card(path), file_sha256(path)
    if card.kind not in KINDS:
        raise CheckpointError(
            f"{path} holds {card.kind}, which no model is made of: name a file of {' or '.join(KINDS)}"
        )
    if refused := [alias for alias in aliases if not ALIAS.fullmatch(alias)]:
        raise ParamsError(f"alias {refused[0]!r}: write letters, digits, _ and -, and neither latest nor v1, v2, …")
    name, path = name or card.name, _portable(path)
    with mlflow_errors(uri):
        client = client_of(uri)
        known = next((model for model in _registered_models(client, card.kind) if model.name == name), None)
        if known is None:
            _create_model(client, name, card.kind)
        if known is None or known.sha256 != sha256:
            tags = {
                "encoder": card.name,
                "path": path,
                "sha256": sha256,
                "generator_sha256": card.generator_sha256 or "",
            }
            made = _log_version(client, experiment_of(client, uri, experiment), name, path, card, tags)
            known = Registered(name, str(made.version), card.name, path, sha256)
        for alias in aliases:
            if alias == CHAMPION and card.kind == "encoder":
                _take_champion(client, name)
            client.set_registered_model_alias(model_name(name), alias, known.version)
    return known


def _create_model(client: "MlflowClient", name: str, kind: str) -> None:
    """Create a registered model, unless there is one of the kind without a version, from a command that was cut off."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model_name(name), tags={"kind": kind})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if (other := client.get_registered_model(model_name(name)).tags.get("kind")) != kind:
            what = f"of kind {other}" if other else "that no command here made"
            raise NameTakenError(f"MLflow has a model {name!r} {what}") from None


def _log_version(
    client: "MlflowClient", experiment_id: str, name: str, path: str, card: Card, tags: dict[str, str]
) -> "ModelVersion":
    """Log a run with the model in it, and make that the newest version of a registered model."""
    from tasks.tracking.models import log_model

    run = client.create_run(
        experiment_id, run_name=shorten(f"register {name}", LONGEST_RUN_NAME), tags=tags | {"mlflow.user": user()}
    )
    try:
        logged = log_model(client, experiment_id, run.info.run_id, card.name, path, tags)
    except BaseException:
        client.set_terminated(run.info.run_id, "FAILED")
        raise
    client.set_terminated(run.info.run_id)
    return client.create_model_version(
        model_name(name),
        logged.artifact_location,  # models:/ID would be looked up in the store of the process
        run.info.run_id,
        tags=tags | {MODEL_ID: logged.model_id},
        description=shorten(_describe(card), LONGEST_DESCRIPTION),
        model_id=logged.model_id,
    )


def _describe(card: Card) -> str:
    """Say in Markdown what a model is, where it comes from and how it is used."""
    notes = [card.notes] if card.notes else []
    facts = [f"- {word}: {value}" for word, value in (("made by", card.made_by), ("licence", card.licence))]
    scores = [f"- {name}: {value:.4g}" for name, value in card.extra.items() if isinstance(value, int | float)]
    return "\n".join([f"**{card.name}**, {card.source}", *notes, "", *facts, *scores])


def registered_encoders(uri: str) -> list[Registered]:
    """Return the newest version of every registered encoder, by name; raises ``TrackingError``."""
    with mlflow_errors(uri):
        return _registered_models(client_of(uri), "encoder")


def _registered_models(client: "MlflowClient", kind: str) -> list[Registered]:
    newest = [_newest(client, model) for model in pages(client.search_registered_models, f"tags.kind = '{kind}'")]
    return sorted(_registered(version) for version in newest if version is not None)


def set_champion(encoder: Registered, uri: str) -> None:
    """Give one version the alias ``champion``, and take it from every other encoder; raises ``TrackingError``."""
    with mlflow_errors(uri):
        client = client_of(uri)
        _take_champion(client, encoder.name)
        client.set_registered_model_alias(model_name(encoder.name), CHAMPION, encoder.version)


def _take_champion(client: "MlflowClient", name: str) -> None:
    """Take the alias ``champion`` from all encoders but one."""
    for model in _champions(client):
        if model.name != model_name(name):
            client.delete_registered_model_alias(model.name, CHAMPION)


def champion(uri: str) -> Registered:
    """Return the encoder with the alias ``champion``; raises ``ParamsError`` if there is none, ``TrackingError``."""
    with mlflow_errors(uri):
        client = client_of(uri)
        found = (client.get_model_version_by_alias(model.name, CHAMPION) for model in _champions(client))
        version = next(found, None)
    if version is None:
        raise ParamsError("encode.encoder: no champion yet; run `edit-dataset compare-encoders`, or name an encoder")
    if lacking := sorted(OURS - version.tags.keys()):
        raise ParamsError(
            f"encode.encoder: version {version.version} of {own_model_name(version.name)!r}, the {CHAMPION} in MLflow, "
            f"has no tag {lacking[0]!r}, so `edit-dataset register` did not make it: give the alias to a version that "
            "it made, or name an encoder"
        )
    return _registered(version)


def _champions(client: "MlflowClient") -> "Iterator[RegisteredModel]":
    models: Iterator[RegisteredModel] = pages(client.search_registered_models, ENCODERS)
    return (model for model in list(models) if CHAMPION in model.aliases)


def _newest(client: "MlflowClient", model: "RegisteredModel") -> "ModelVersion | None":
    """Return the newest version that a command here made, if there is one."""
    versions: Iterator[ModelVersion] = pages(client.search_model_versions, f'name="{model.name}"')
    ours = (version for version in versions if version.tags.keys() >= OURS)
    return max(ours, key=lambda version: int(version.version), default=None)


def _registered(version: "ModelVersion") -> Registered:
    tags = version.tags
    return Registered(own_model_name(version.name), str(version.version), tags["encoder"], tags["path"], tags["sha256"])


def _portable(path: str) -> str:
    """Return a path inside the project as relative to it, so that a copy of the project finds its own file."""
    inside = "://" not in path and Path(path).absolute().is_relative_to(Path.cwd())
    return Path(path).absolute().relative_to(Path.cwd()).as_posix() if inside else path
