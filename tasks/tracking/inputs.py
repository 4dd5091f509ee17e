"""What a run was made from, in MLflow: its dataset with schema and profile, and the registered models."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa

from gan_core.errors import DataError
from gan_core.recipes.base import recipe_of
from gan_core.runs.run import Run
from gan_core.storage.shards import IMAGE, open_shard
from tasks.record import Record
from tasks.tracking.names import own_model_name
from tasks.tracking.registry import MODEL_ID

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.types.schema import Schema

NETWORKS = ("encoder_sha256", "generator_sha256")
"""Of a stage's identity; the networks that ``edit-dataset register`` takes."""


def log_inputs(client: "MlflowClient", run_id: str, record: Record, run: Run) -> None:
    """Log the dataset, and the registered models that the run used; the tag ``encoder.version`` names the encoder's."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

    known, kind = record.dataset, urlsplit(record.dataset["source"]).scheme or "local"
    source = json.dumps({"uri": known["source"]})
    dataset = Dataset(known["name"], known["digest"], kind, source, **_contents(run))
    models = {name: version for name in NETWORKS for version in _versions(client, run, name)}
    used = [LoggedModelInput(version.tags[MODEL_ID]) for version in models.values() if MODEL_ID in version.tags]
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "inversion")])], used)
    if encoder := models.get(NETWORKS[0]):
        aliases = client.get_registered_model(encoder.name).aliases
        names = [alias for alias, version in aliases.items() if str(version) == str(encoder.version)]
        said = f"{own_model_name(encoder.name)} {encoder.version}" + (f" ({', '.join(names)})" if names else "")
        client.set_tag(run_id, "encoder.version", said)


def _contents(run: Run) -> dict[str, str]:
    """Return MLflow's schema and profile of the run's source; nothing of a source that is no longer there."""
    try:
        shards, rows = recipe_of(run).inputs(run), 0
        for shard in shards:
            with open_shard(shard) as file:
                schema, rows = _schema(file.schema_arrow), rows + file.metadata.num_rows
    except (DataError, OSError):
        return {}
    if not shards:
        return {}
    profile = {"num_rows": rows, "num_shards": len(shards)}
    return {"schema": json.dumps({"mlflow_colspec": schema.to_dict()}), "profile": json.dumps(profile)}


def _schema(columns: pa.Schema) -> "Schema":
    from mlflow.types import ColSpec, Schema

    return Schema([ColSpec(_type(field.type), field.name) for field in columns])  # type: ignore[arg-type]


def _type(kind: pa.DataType) -> Any:
    from mlflow.types.schema import AnyType, DataType

    if kind == IMAGE or pa.types.is_binary(kind):
        return DataType.binary
    plain = {pa.string(): "string", pa.float32(): "float", pa.float64(): "double"}
    plain |= {pa.int32(): "integer", pa.int64(): "long", pa.bool_(): "boolean"}
    return DataType[plain[kind]] if kind in plain else AnyType()


def _versions(client: "MlflowClient", run: Run, name: str) -> "Iterator[ModelVersion]":
    """Yield the newest registered version of a network of the run, if there is one."""
    hashes = {identity[name] for identity in run.identities.values() if isinstance(identity.get(name), str)}
    for sha256 in sorted(hashes):
        found = client.search_model_versions(f"tags.sha256 = '{sha256}'")
        yield from sorted(found, key=lambda version: -int(version.version))[:1]
