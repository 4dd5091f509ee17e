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
    """Tunes the generator to each row at its latent, ``params.batch_size`` rows at a time.

    The number and the order of rows that are tuned together change results by rounding only: a picture by at most one
    level of grey in 255 where nothing diverges.

    Adds ``tuned`` (PNG drawn with ``delta``), ``delta`` (``gan_core.inversion.delta``; empty where tuning diverged),
    ``steps``, ``loss`` (the objective at the end) and ``stop_reason`` (``steps``, ``perceptual``, ``diverged``). A row
    is rejected as ``bad_latent`` if its latent isn't finite. Raises ``ParamsError`` for images of another size than the
    generator's.
    """

    name: ClassVar[str] = "tune"
    inputs: ClassVar[tuple[str, ...]] = ("align", "encode")
    version: ClassVar[int] = 3
    fields: Sequence[pa.Field] = (
        pa.field("tuned", IMAGE),
        pa.field("delta", pa.binary()),
        pa.field("steps", pa.int32()),
        pa.field("loss", pa.float32()),
        pa.field("stop_reason", pa.string()),
    )

    def __init__(self, params: TuneParams, models: ModelPaths) -> None:
        self.params = params
        self.batch_size = params.batch_size
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
        """Tune all rows at once, each from the same generator."""
        finite = [bool(np.isfinite(row["latent"]).all()) for row in rows]
        good = [row for row, ok in zip(rows, finite, strict=True) if ok]
        with one_thread():
            tuned = iter(self._tune(good) if good else [])
        return [next(tuned) if ok else Rejected("bad_latent", "the latent has NaN or infinity") for ok in finite]

    def _tune(self, rows: Sequence[Row]) -> list[Row]:
        pivots = torch.from_numpy(np.stack([row["latent"] for row in rows]).astype(np.float32))
        targets = aligned_images(rows)
        if targets.shape[2:] != (self.generator.size,) * 2:
            raise ParamsError(
                f"align.size: the aligned images are {targets.shape[3]} px, tuning compares them with the generator's "
                f"{self.generator.size}; set align.size to that"
            )
        seeds = [row_seed(row["key"]) for row in rows]
        tuned = tune_pivots(self.generator, pivots, targets, self.loss, self.params, seeds)
        return [self._columns(*row) for row in zip((row["key"] for row in rows), pivots.split(1), tuned, strict=True)]

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
