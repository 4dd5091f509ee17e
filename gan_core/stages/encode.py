"""The stage that inverts: aligned faces -> latents, and what the generator draws from them."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_core.batching import chunk_size, in_chunks, one_thread
from gan_core.device import fetch
from gan_core.encoders.fast import prepare_fast
from gan_core.loading import load_encoder, load_generator
from gan_core.params import EncodeParams, ModelPaths, Params
from gan_core.precision import set_precision
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import STAGES, Stage
from gan_core.sections import Precision
from gan_core.storage.images import decode_image, encode_png, image_value, to_tensor, to_uint8
from gan_core.storage.shards import IMAGE, latent_type


@STAGES.register("encode")
class EncodeStage(Stage):
    """Encodes each aligned image and draws its reconstruction.

    Adds ``latent`` [n_latent][w_dim] (the average latent included) and ``reconstruction`` (PNG of the generator's
    size). With ``precision`` fast both networks convolve in bfloat16. A row is rejected as ``bad_latent`` where numbers
    aren't finite. Raises ``CheckpointError`` for an encoder that was made for another generator.
    """

    name: ClassVar[str] = "encode"
    inputs: tuple[str, ...] = ("align",)

    def __init__(
        self, params: EncodeParams, models: ModelPaths, batch_size: int = 32, precision: Precision = "exact"
    ) -> None:
        self.batch_size = batch_size
        generator = load_generator(models.generator)
        encoder = load_encoder(models.encoder, generator, params.encoder)
        self.encoder, self.generator = encoder.model, generator.model
        self.fields: Sequence[pa.Field] = (
            pa.field("latent", latent_type(self.encoder.n_latent, self.encoder.w_dim)),
            pa.field("reconstruction", IMAGE),
        )
        hashes = {"encoder_sha256": encoder.sha256, "generator_sha256": generator.sha256}
        self._identity = {"params": params.model_dump(), **hashes}
        if precision == "fast":
            prepare_fast(self.encoder)
            set_precision(self.generator, precision)
            self._identity["precision"] = precision

    @classmethod
    def build(cls, params: Params, source: str) -> "EncodeStage":
        """Build the stage from ``encode``, ``models``, ``run.batch_size`` and ``run.precision``."""
        return cls(params.encode, params.models, params.run.batch_size, params.run.precision)

    def identity(self) -> dict[str, Any]:
        """The encoder's name and the hashes of both checkpoints."""
        return self._identity

    @torch.no_grad()
    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Encode all rows; their number and order change no result."""
        images = aligned_images(rows)
        with one_thread():
            latents = in_chunks(self.encoder.encode, images)
            drawn = in_chunks(self.generator.synthesis, latents, chunk_size(self.generator.size))
            latents = torch.where(drawn.isfinite().flatten(1).all(1)[:, None, None], latents, torch.nan)
        return [self._columns(*row) for row in zip(rows, fetch(latents), to_uint8(drawn), strict=True)]

    def _columns(self, row: Row, latent: np.ndarray, pixels: np.ndarray) -> Row | Rejected:
        if not np.isfinite(latent).all():
            return Rejected("bad_latent", "the encoder gave NaN or infinity for this image")
        return {"latent": latent, "reconstruction": image_value(encode_png(pixels), f"{row['key']}.png")}


def aligned_images(rows: Sequence[Row]) -> Tensor:
    """Decode the ``image`` column of the align stage to ``[B, 3, H, W]`` in [-1, 1]; raises ``ImageError``."""
    return to_tensor([decode_image(row["image"]["bytes"], max_pixels=1 << 24) for row in rows])
