"""The stage that inverts: aligned faces -> latents, and what the generator draws from them."""

from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from gan_core.batching import chunk_size, in_chunks, one_thread
from gan_core.encoders.fast import prepare_fast
from gan_core.errors import CheckpointError
from gan_core.loading import load_encoder, load_generator
from gan_core.params import EncodeParams, ModelPaths, Params
from gan_core.precision import set_precision
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import STAGES, Stage
from gan_core.sections import Precision
from gan_core.stages.align import ENCODER_INPUT
from gan_core.storage.images import decode_image, encode_png, image_value, resize_rounded, to_tensor, to_uint8
from gan_core.storage.shards import IMAGE, latent_type


@STAGES.register("encode")
class EncodeStage(Stage):
    """Encodes each aligned image and draws its reconstruction.

    Adds ``latent`` [n_latent][w_dim] (the average latent included) and ``reconstruction`` (PNG of the generator's size,
    the encoder's frame of it). The encoder sees its frame of the aligned image, or ``encoder_input`` where alignment
    has made that. With ``precision`` fast both networks convolve in bfloat16. A row is rejected as ``bad_latent`` where
    numbers aren't finite. Raises ``CheckpointError`` for an encoder that was made for another generator or sees no
    pictures.
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
        if (channels := int(self.encoder.arguments.get("input_channels", 3))) != 3:
            raise CheckpointError(
                f"{models.encoder} sees {channels} channels, not pictures of 3: choose an encoder that inverts pictures"
            )
        self.fields: Sequence[pa.Field] = (
            pa.field("latent", latent_type(self.encoder.n_latent, self.encoder.w_dim)),
            pa.field("reconstruction", IMAGE),
        )
        hashes = {"encoder_sha256": encoder.sha256, "generator_sha256": generator.sha256}
        self.rounded = params.rounded
        self._identity = {"params": params.model_dump(exclude=None if params.rounded else {"rounded"}), **hashes}
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
        images = self._inputs(rows)
        with one_thread():
            latents = in_chunks(self.encoder.encode, images)
            drawn = in_chunks(self.generator.synthesis, latents, chunk_size(self.generator.size))
        return [self._columns(*row) for row in zip(rows, latents, drawn, strict=True)]

    def _inputs(self, rows: Sequence[Row]) -> Tensor:
        """What the encoder sees; ``encode`` resamples it in floating point where its size is another."""
        if ENCODER_INPUT in rows[0]:
            return decoded_images(rows, ENCODER_INPUT)
        images = self.encoder.frame(aligned_images(rows))
        if not self.rounded:
            return images
        pictures = [Image.fromarray(pixels) for pixels in to_uint8(images)]
        return to_tensor([resize_rounded(picture, self.encoder.input_shape) for picture in pictures])

    def _columns(self, row: Row, latent: Tensor, image: Tensor) -> Row | Rejected:
        if not (latent.isfinite().all() and image.isfinite().all()):
            return Rejected("bad_latent", "the encoder gave NaN or infinity for this image")
        png = encode_png(to_uint8(self.encoder.frame(image[None]))[0])
        return {"latent": latent.numpy(), "reconstruction": image_value(png, f"{row['key']}.png")}


def aligned_images(rows: Sequence[Row]) -> Tensor:
    """Decode the ``image`` column of the align stage to ``[B, 3, H, W]`` in [-1, 1]; raises ``ImageError``."""
    return decoded_images(rows, "image")


def decoded_images(rows: Sequence[Row], column: str) -> Tensor:
    """Decode an image column of stages before this one to ``[B, 3, H, W]`` in [-1, 1]; raises ``ImageError``."""
    return to_tensor([decode_image(row[column]["bytes"], max_pixels=1 << 24) for row in rows])
