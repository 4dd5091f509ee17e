"""Encoders, generators and directions as MLflow models, for ``mlflow.pyfunc.load_model`` and ``mlflow models serve``.

A model is a folder with the checkpoint; MLflow loads it through ``_load_pyfunc`` below, and nothing is pickled.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gan_core.batching import chunk_size, in_chunks, one_thread
from gan_core.checkpoints.files import read_card
from gan_core.device import fetch
from gan_core.editing.apply import apply_edit
from gan_core.editing.directions import find_direction, load_directions
from gan_core.encoders.base import Encoder
from gan_core.errors import DataError
from gan_core.generators.base import Generator
from gan_core.loading import load_encoder, load_generator
from gan_core.storage.images import decode_image, encode_png, to_tensor, to_uint8

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

CHECKPOINT = "checkpoint.safetensors"
IMAGE = "image"
MAX_PIXELS = 1 << 24
MOVED_SPACES = ("w", "w_plus")
REQUIREMENTS = ["edit-dataset"]


class EncoderModel:
    """Aligned pictures → latents, those of the encode stage bit for bit."""

    def __init__(self, path: Path) -> None:
        self.encoder: Encoder = load_encoder(path, None).model

    def signature(self) -> "ModelSignature":
        """Bytes of pictures in a column ``image`` → ``[N, n_latent, w_dim]``."""
        return _signature({IMAGE: "binary"}, (-1, self.encoder.n_latent, self.encoder.w_dim))

    def example(self) -> list[dict[str, Any]]:
        """One grey picture."""
        return [{IMAGE: encode_png(np.full((*self.encoder.input_shape, 3), 127, np.uint8))}]

    @torch.no_grad()
    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> np.ndarray:
        """Encode PNG or JPEG bytes, a list of them or a table with a column ``image``; raises ``ImageError``."""
        pictures = [decode_image(bytes(picture), max_pixels=MAX_PIXELS) for picture in _column(model_input, IMAGE)]
        with one_thread():
            latents = [in_chunks(self.encoder.encode, self.encoder.frame(to_tensor([picture]))) for picture in pictures]
        return fetch(torch.cat(latents)) if latents else np.empty((0, self.encoder.n_latent, self.encoder.w_dim), "f4")


class GeneratorModel:
    """Latents → pictures, those of the edit stage bit for bit."""

    def __init__(self, path: Path) -> None:
        self.generator: Generator = load_generator(path).model

    def signature(self) -> "ModelSignature":
        """``[N, n_latent, w_dim]`` → PNG bytes in a column ``image``."""
        return _signature((-1, self.generator.n_latent, self.generator.w_dim), {IMAGE: "binary"})

    def example(self) -> np.ndarray:
        """One latent of zeros."""
        return np.zeros((1, self.generator.n_latent, self.generator.w_dim), np.float32)

    @torch.no_grad()
    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[dict[str, bytes]]:
        """Draw latents ``[N, n_latent, w_dim]``."""
        latents = torch.from_numpy(np.array(model_input, np.float32))
        with one_thread():
            drawn = in_chunks(self.generator.synthesis, latents, chunk_size(self.generator.size))
        return [{IMAGE: encode_png(pixels)} for pixels in to_uint8(drawn)]


class DirectionsModel:
    """Latents → latents, moved along one of a file's directions."""

    def __init__(self, path: Path) -> None:
        self.directions = {n: d for n, d in load_directions(path).model.items() if d.space in MOVED_SPACES}
        if not self.directions:
            raise DataError(f"{path} has no direction of {' or '.join(MOVED_SPACES)}, which a model of latents needs")

    def signature(self) -> "ModelSignature":
        """``[N, n_latent, w_dim]`` → the same, with the parameters ``direction`` and ``strength``."""
        shape = (-1, -1, next(iter(self.directions.values())).vector.shape[-1])
        return _signature(shape, shape, {"direction": next(iter(self.directions)), "strength": 1.0})

    def example(self) -> np.ndarray:
        """One latent of zeros, of 18 layers unless a direction says how many."""
        shape = next((tuple(d.vector.shape) for d in self.directions.values() if d.vector.dim() == 2), None)
        return np.zeros((1, *(shape or (18, next(iter(self.directions.values())).vector.shape[-1]))), np.float32)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> np.ndarray:
        """Move latents by ``strength`` units of ``direction``; raises ``ParamsError`` for one that isn't there."""
        asked = params or {}
        direction = find_direction(self.directions, str(asked.get("direction", next(iter(self.directions)))))
        latents = torch.from_numpy(np.array(model_input, np.float32))
        return fetch(apply_edit(latents, direction, float(asked.get("strength", 1.0))))


Model = EncoderModel | GeneratorModel | DirectionsModel
MODELS: dict[str, type[Model]] = {
    "encoder": EncoderModel,
    "generator": GeneratorModel,
    "directions": DirectionsModel,
}
"""By the kind of the checkpoint's card."""


def _load_pyfunc(folder: str) -> Model:
    """Load a logged checkpoint; MLflow calls this by its name."""
    path = Path(folder) / CHECKPOINT
    return MODELS[read_card(path).kind](path)


def log_model(
    client: "MlflowClient", experiment_id: str, run_id: str, name: str, path: str, tags: Mapping[str, str]
) -> Any:
    """Log a checkpoint as a model of a run, with signature, input example and requirements; return MLflow's model."""
    from mlflow.pyfunc import save_model

    model = MODELS[read_card(path).kind](Path(path))
    logged = client.create_logged_model(experiment_id, name, source_run_id=run_id, tags=dict(tags))
    with TemporaryDirectory() as place:
        data, folder = Path(place, "data"), Path(place, "model")
        data.mkdir()
        shutil.copyfile(path, data / CHECKPOINT)
        save_model(
            folder,
            loader_module=__name__,
            data_path=str(data),
            signature=model.signature(),
            input_example=_table(model.example()),
            pip_requirements=REQUIREMENTS,
            mlflow_model=_described(logged.model_id, run_id),
        )
        client.log_model_artifacts(logged.model_id, str(folder))
    return client.finalize_logged_model(logged.model_id, "READY")


def _described(model_id: str, run_id: str) -> Any:
    from mlflow.models import Model as MlflowModel

    return MlflowModel(model_id=model_id, run_id=run_id)


def _signature(
    inputs: Mapping[str, str] | tuple[int, ...],
    outputs: Mapping[str, str] | tuple[int, ...],
    params: Mapping[str, Any] | None = None,
) -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    def schema(form: Mapping[str, str] | tuple[int, ...]) -> Schema:
        if isinstance(form, tuple):
            return Schema([TensorSpec(np.dtype(np.float32), form)])
        return Schema([ColSpec(kind, name) for name, kind in form.items()])

    kinds = {str: "string", float: "double"}
    accepted = [ParamSpec(name, kinds[type(value)], value) for name, value in (params or {}).items()]
    return ModelSignature(schema(inputs), schema(outputs), ParamSchema(accepted) if accepted else None)  # type: ignore[arg-type]  # MLflow's hint leaves None out


def _column(model_input: Any, name: str) -> Any:
    return model_input[name] if hasattr(model_input, "columns") else model_input


def _table(example: Any) -> Any:
    from pandas import DataFrame

    return DataFrame(example) if isinstance(example, list) else example
