"""Checkpoints as MLflow models: any MLflow client loads them by name, and gets what the stages make, bit for bit."""

import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from prefect.logging import disable_run_logger

from gan_core import apply_edit, in_chunks, load_directions, load_generator, to_uint8
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.storage.images import decode_image
from gan_core.storage.shards import list_shards, read_rows
from tasks.tracking.registry import MODEL_ID, register_checkpoint, registered_encoders
from tasks.tracking.runs import track

QUICK = {"tune.enabled": False, "measure.metrics": ["mse"]}


@pytest.fixture
def store(mlflow_store: str) -> Iterator[str]:
    """A store that MLflow's own functions find, as in a notebook."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_store)
    yield mlflow_store
    mlflow.set_tracking_uri(before)


def test_a_registered_encoder_gives_the_latents_of_a_run(
    store: str, project: Path, tiny_models: dict[str, str], tiny_dataset: str
) -> None:
    run_plain(plan := plan_run(tiny_dataset, "out", overrides=QUICK))
    shard = list_shards("out/align")[0]
    rows = [row for batch in read_rows(shard) for row in batch if row["status"] == "ok"]
    encoded = (row for batch in read_rows(shard.replace("align", "encode")) for row in batch)
    latents = {row["key"]: row["latent"] for row in encoded}

    register_checkpoint("psp-model", tiny_models["encoder"], store, ["champion"])
    model = mlflow.pyfunc.load_model("models:/psp-model@champion")
    given = model.predict(pd.DataFrame({"image": [row["image"]["bytes"] for row in rows]}))
    wanted = np.stack([np.asarray(latents[row["key"]], np.float32).reshape(given.shape[1:]) for row in rows])
    assert np.array_equal(given, wanted) and given.dtype == np.float32
    assert model.metadata.signature.inputs.input_names() == ["image"]

    version = MlflowClient(store).get_model_version_by_alias("psp-model", "champion")
    assert version.run_id and MlflowClient(store).get_run(version.run_id).info.status == "FINISHED"
    assert "{" not in version.description and "licence" in version.description

    with disable_run_logger():
        run_id = track(plan.run, [], {"mse/encoded": 0.5}, 1_700_000_000.0)
    logged = MlflowClient(store).get_run(run_id)
    assert logged.data.tags["encoder.version"] == "psp-model 1 (champion)"
    assert [used.model_id for used in logged.inputs.model_inputs] == [version.tags[MODEL_ID]]
    (used,) = logged.inputs.dataset_inputs
    columns = {column["name"]: column["type"] for column in json.loads(used.dataset.schema)["mlflow_colspec"]}
    assert columns["key"] == "string" and columns["image"] == "binary" and columns["landmarks"] == "any"
    assert json.loads(used.dataset.profile) == {"num_rows": 8, "num_shards": 3}


def test_a_generator_and_directions_are_models_too(store: str, tiny_models: dict[str, str]) -> None:
    for kind in ("generator", "directions"):
        register_checkpoint(f"my-{kind}", tiny_models[kind], store)
    assert not {"my-generator", "my-directions"} & {encoder.name for encoder in registered_encoders(store)}
    generator = load_generator(tiny_models["generator"]).model
    latents = torch.randn(2, generator.n_latent, generator.w_dim, generator=torch.Generator().manual_seed(1))

    moved = mlflow.pyfunc.load_model("models:/my-directions/1").predict(
        latents.numpy(), params={"direction": "yaw", "strength": -0.5}
    )
    yaw = load_directions(tiny_models["directions"]).model["yaw"]
    assert np.array_equal(moved, apply_edit(latents, yaw, -0.5).numpy())

    drawn = mlflow.pyfunc.load_model("models:/my-generator/1").predict(moved)
    wanted = to_uint8(in_chunks(generator.synthesis, torch.from_numpy(moved)))
    for row, pixels in zip(drawn, wanted, strict=True):
        assert np.array_equal(decode_image(row["image"], max_pixels=1 << 20), pixels)
