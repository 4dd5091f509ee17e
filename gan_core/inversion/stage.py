"""The stage that tunes: each aligned face gets its own small change of the generator's weights."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch

from gan_core.batching import one_thread
from gan_core.checkpoints.store import file_sha256, load_generator
from gan_core.data.images import encode_png, image_value, to_uint8
from gan_core.data.shards import IMAGE
from gan_core.data.stages import Rejected, Row, Stage
from gan_core.encoders.stage import aligned_images
from gan_core.errors import ParamsError
from gan_core.inversion.delta import apply_delta, pack_delta
from gan_core.inversion.pti import Tuned, tune_pivots
from gan_core.metrics.perceptual import load_perceptual
from gan_core.params import ModelPaths, TuneParams


class TuneStage(Stage):
    """Tunes the generator to each row at its latent.

    Adds ``tuned`` (PNG drawn with ``delta``), ``delta`` (``gan_core.inversion.delta``; empty where tuning diverged),
    ``steps``, ``loss`` (the objective at the end) and ``stop_reason`` (``steps``, ``perceptual``, ``diverged``). A row
    is rejected as ``bad_latent`` if its latent isn't finite. Raises ``ParamsError`` for images of another size than the
    generator's.
    """

    name: ClassVar[str] = "tune"
    inputs: ClassVar[tuple[str, ...]] = ("align", "encode")
    version: ClassVar[int] = 2
    fields: Sequence[pa.Field] = (
        pa.field("tuned", IMAGE),
        pa.field("delta", pa.binary()),
        pa.field("steps", pa.int32()),
        pa.field("loss", pa.float32()),
        pa.field("stop_reason", pa.string()),
    )

    def __init__(self, params: TuneParams, models: ModelPaths, batch_size: int = 32) -> None:
        self.params = params
        self.batch_size = batch_size
        self.generator = load_generator(models.generator)
        self.loss = load_perceptual(models.perceptual)
        hashes = {
            "perceptual_sha256": file_sha256(models.perceptual),
            "generator_sha256": file_sha256(models.generator),
        }
        self._identity = {"params": params.model_dump(exclude={"enabled"}), **hashes}

    def identity(self) -> dict[str, Any]:
        """The tuning parameters and the hashes of the generator and the perceptual trunk."""
        return self._identity

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Tune row after row, each from the same generator."""
        with one_thread():
            return [self._tune(row) for row in rows]

    def _tune(self, row: Row) -> Row | Rejected:
        pivot = torch.from_numpy(np.array(row["latent"], dtype=np.float32))[None]
        if not pivot.isfinite().all():
            return Rejected("bad_latent", "the latent has NaN or infinity")
        target = aligned_images([row])
        if target.shape[2:] != (self.generator.size,) * 2:
            raise ParamsError(
                f"align.size: the aligned images are {target.shape[3]} px, tuning compares them with the generator's "
                f"{self.generator.size}; set align.size to that"
            )
        (tuned,) = tune_pivots(self.generator, pivot, target, self.loss, self.params, [row_seed(row["key"])])
        return self._columns(row["key"], pivot, tuned)

    @torch.no_grad()
    def _columns(self, key: str, pivot: torch.Tensor, tuned: Tuned) -> Row:
        delta = pack_delta(tuned.delta)
        with apply_delta(self.generator, delta) as generator:
            image = generator.synthesis(pivot)
        return {
            "tuned": image_value(encode_png(to_uint8(image)[0]), f"{key}.png"),
            "delta": delta,
            "steps": tuned.steps,
            "loss": tuned.losses[0 if tuned.stop_reason == "diverged" else -1].total,
            "stop_reason": tuned.stop_reason,
        }


def row_seed(key: str) -> int:
    """Return the seed of a row's random stream: 63 bits of the hash of its key."""
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big") >> 1
