"""The stage that inverts: aligned faces -> latents, and what the generator draws from them."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from gan_core.batching import chunk_size, in_chunks, one_thread
from gan_core.device import fetch
from gan_core.encoders.fast import prepare_fast
from gan_core.errors import CheckpointError, ParamsError
from gan_core.geometry import average_down
from gan_core.judges.domain import FLAG, explain, find_limits
from gan_core.judges.perceptual import load_perceptual, pair_distances
from gan_core.loading import load_encoder, load_generator
from gan_core.params import EncodeParams, ModelPaths, Params
from gan_core.precision import set_precision
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import STAGES, Stage
from gan_core.sections import Precision
from gan_core.stages.align import ENCODER_INPUT
from gan_core.storage.images import load_pictures, resize_rounded, stack_pictures, to_tensor, to_uint8
from gan_core.storage.shards import IMAGE, latent_type

MOST_ALIGNED = 1 << 24
"""Pixels of an aligned image, at most."""


@STAGES.register("encode")
class EncodeStage(Stage):
    """Encodes each aligned image and draws its reconstruction.

    Adds ``latent`` [n_latent][w_dim] (the average latent included) and ``reconstruction`` (of the generator's size, the
    encoder's frame of it). The encoder sees its frame of the aligned image, or ``encoder_input`` where alignment
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
        unused = {"out_of_domain"} | (set() if params.rounded else {"rounded"})
        self._identity = {"params": params.model_dump(exclude=unused), **hashes}
        self.judge = None if params.out_of_domain == "report" else _Judge(params, models, hashes)
        if self.judge:
            self._identity |= self.judge.identity
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

    def load(self, row: Row) -> Row:
        """Decode what the encoder sees, and the aligned image if it is another and has to be compared."""
        return load_pictures(row, [_seen(row), *(["image"] if self.judge else [])], MOST_ALIGNED)

    @torch.no_grad()
    def calculate(self, rows: Sequence[Row]) -> Iterator[Row | Rejected]:
        """Encode and draw all rows, a chunk at a time; their number and order change no result."""
        size = max(chunk_size(side) for side in (self.generator.size, *rows[0][_seen(rows[0])].shape[:2]))
        for start in range(0, len(rows), size):
            yield from self._encode(rows[start : start + size])

    def _encode(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        images = self._inputs(rows)
        with one_thread():
            latents = in_chunks(self.encoder.encode, images)
            drawn = in_chunks(self.generator.synthesis, latents, chunk_size(self.generator.size))
            latents = torch.where(drawn.isfinite().flatten(1).all(1)[:, None, None], latents, torch.nan)
            framed = self.encoder.frame(drawn)
            columns = [self._columns(*row) for row in zip(fetch(latents), to_uint8(framed), strict=True)]
            if self.judge is None:
                return columns
            return self.judge.add(columns, self.encoder.frame(stack_pictures(rows, "image")), framed)

    def _inputs(self, rows: Sequence[Row]) -> Tensor:
        """What the encoder sees; ``encode`` resamples it in floating point where its size is another."""
        column = _seen(rows[0])
        images = stack_pictures(rows, column)
        if column == ENCODER_INPUT:
            return images
        images = self.encoder.frame(images)
        if not self.rounded:
            return images
        pictures = [Image.fromarray(pixels) for pixels in to_uint8(images)]
        return to_tensor([resize_rounded(picture, self.encoder.input_shape) for picture in pictures])

    @staticmethod
    def _columns(latent: np.ndarray, pixels: np.ndarray) -> Row | Rejected:
        if not np.isfinite(latent).all():
            return Rejected("bad_latent", "the encoder gave NaN or infinity for this image")
        return {"latent": latent, "reconstruction": pixels}


def _seen(row: Row) -> str:
    """The column with what the encoder sees."""
    return ENCODER_INPUT if ENCODER_INPUT in row else "image"


class _Judge:
    """Flags or rejects the rows whose reconstruction is farther from the image than those of known pictures."""

    def __init__(self, params: EncodeParams, models: ModelPaths, hashes: dict[str, str]) -> None:
        perceptual = load_perceptual(models.perceptual)
        self.score = perceptual.model.name.replace("_", "/", 1)
        limits = find_limits(models.domain, hashes)
        limit = next((x for x in limits if (x.score, x.network) == (self.score, perceptual.sha256)), None)
        if limit is None:
            raise ParamsError(
                f"encode.out_of_domain is {params.out_of_domain!r}, but {models.domain} has no limit of {self.score} "
                f"for this encoder: `edit-dataset calibrate RUN` fits one to a run over pictures that it knows"
            )
        self.limit, self.distance, self.rejects = limit, perceptual.model, params.out_of_domain == "reject"
        self.identity = {"out_of_domain": params.out_of_domain, "limit": limit.model_dump()}

    def add(self, columns: list[Row | Rejected], images: Tensor, drawn: Tensor) -> list[Row | Rejected]:
        """Return the columns of each row with a flag, or a rejection in their place."""
        seen = to_tensor(list(to_uint8(drawn)))
        height, width = min(images.shape[2:], seen.shape[2:])
        compared = (average_down(x, (height, width)) for x in (seen, images))
        values = pair_distances(self.distance, *compared).tolist()
        return [self._judged(row, value) for row, value in zip(columns, values, strict=True)]

    def _judged(self, row: Row | Rejected, value: float) -> Row | Rejected:
        if isinstance(row, Rejected) or value <= self.limit.limit:
            return row
        said = explain(self.limit, value)
        return Rejected(FLAG, said) if self.rejects else row | {"reason": f"{FLAG}: {said}"}
