"""The stage that tunes: each aligned face gets its own small change of the generator's weights."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from gan_core.batching import one_thread
from gan_core.checkpoints.store import file_sha256, load_generator
from gan_core.data.images import encode_png, image_value, to_uint8
from gan_core.data.shards import IMAGE, latent_type
from gan_core.data.stages import Rejected, Row, Stage
from gan_core.encoders.stage import aligned_images
from gan_core.errors import ParamsError
from gan_core.inversion.delta import apply_delta, pack_delta, pack_full
from gan_core.inversion.group import tune_group
from gan_core.inversion.projector import PTI, project
from gan_core.inversion.pti import Tuned, tune_pivots
from gan_core.metrics.perceptual import load_perceptual
from gan_core.params import ModelPaths, TuneParams

FIELDS = (
    pa.field("tuned", IMAGE),
    pa.field("delta", pa.binary()),
    pa.field("steps", pa.int32()),
    pa.field("loss", pa.float32()),
    pa.field("stop_reason", pa.string()),
)


class TuneStage(Stage):
    """Tunes the generator to each row at its latent, ``params.batch_size`` rows at a time.

    The number and the order of rows that are tuned together change results by rounding only: a picture by at most one
    level of grey in 255 where nothing diverges.

    Adds ``tuned`` (PNG drawn with ``delta``), ``delta`` (``gan_core.inversion.delta``; empty where tuning diverged),
    ``steps``, ``loss`` (the objective at the end) and ``stop_reason`` (``steps``, ``perceptual``, ``diverged``); with a
    pivot that isn't the encoder's, ``latent`` too. ``edits`` is the stage that draws edits: given where
    ``params.persist`` is ``none``, its columns are added here and ``delta`` stays empty.

    A row is rejected as ``bad_latent`` if its latent isn't finite. Raises ``ParamsError`` for images of another size
    than the generator's.
    """

    name: ClassVar[str] = "tune"
    inputs: ClassVar[tuple[str, ...]] = ("align", "encode")
    version: ClassVar[int] = 3

    def __init__(self, params: TuneParams, models: ModelPaths, edits: Stage | None = None) -> None:
        self.params = params
        self.edits = edits
        self.batch_size = params.batch_size
        self.generator = load_generator(models.generator)
        self.loss = load_perceptual(models.perceptual)
        self.fields: Sequence[pa.Field] = [*FIELDS, *self._more_fields()]
        hashes = {
            "perceptual_sha256": file_sha256(models.perceptual),
            "generator_sha256": file_sha256(models.generator),
        }
        self._identity = {"params": params.model_dump(exclude={"enabled"}), **hashes}
        if edits:
            self._identity["edits"] = edits.identity()

    def identity(self) -> dict[str, Any]:
        """The tuning parameters, the hashes of the generator and the perceptual trunk, and the edits drawn here."""
        return self._identity

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Tune all rows at once, each from the same generator."""
        finite = [bool(np.isfinite(row["latent"]).all()) for row in rows]
        good = [row for row, ok in zip(rows, finite, strict=True) if ok]
        with one_thread():
            tuned = iter(self._tune(good) if good else [])
        return [next(tuned) if ok else Rejected("bad_latent", "the latent has NaN or infinity") for ok in finite]

    def _tune(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        targets = aligned_images(rows)
        if targets.shape[2:] != (self.generator.size,) * 2:
            raise ParamsError(
                f"align.size: the aligned images are {targets.shape[3]} px, tuning compares them with the generator's "
                f"{self.generator.size}; set align.size to that"
            )
        seeds = [row_seed(row["key"]) for row in rows]
        pivots = self._pivots(rows, targets, seeds)
        tune = tune_group if self.params.shared else tune_pivots
        tuned = tune(self.generator, pivots, targets, self.loss, self.params, seeds)
        return [self._columns(*row) for row in zip(rows, pivots.split(1), tuned, strict=True)]

    def _pivots(self, rows: Sequence[Row], targets: Tensor, seeds: Sequence[int]) -> Tensor:
        """The encoder's latents, or those that an optimisation after PTI's recipe finds, ``[B, n_latent, w_dim]``."""
        if self.params.pivot == "encoder":
            return torch.from_numpy(np.stack([row["latent"] for row in rows]).astype(np.float32))
        recipe = replace(PTI, space=self.params.pivot, steps=self.params.pivot_steps, lr=self.params.pivot_lr)
        return project(self.generator, targets, self.loss, recipe, seeds)[0]

    @torch.no_grad()
    def _columns(self, row: Row, pivot: Tensor, tuned: Tuned) -> Row | Rejected:
        if not pivot.isfinite().all():
            return Rejected("bad_latent", "the optimisation of the pivot ended in NaN or infinity")
        delta = pack_full(tuned.delta) if self.params.persist == "full" else pack_delta(tuned.delta)
        with apply_delta(self.generator, delta) as generator:
            image = generator.synthesis(pivot)
        columns: Row = {
            "tuned": image_value(encode_png(to_uint8(image)[0]), f"{row['key']}.png"),
            "delta": delta,
            "steps": tuned.steps,
            "loss": tuned.losses[0 if tuned.stop_reason == "diverged" else -1].total,
            "stop_reason": tuned.stop_reason,
        }
        if self.params.pivot != "encoder":
            columns["latent"] = pivot[0].numpy()
        return self._edited(row | columns, columns) if self.edits else columns

    def _edited(self, row: Row, columns: Row) -> Row | Rejected:
        """Draw the edits while the tuned weights are at hand, and keep nothing of the weights."""
        assert self.edits is not None
        (drawn,) = self.edits.process([row])
        return drawn if isinstance(drawn, Rejected) else columns | drawn | {"delta": b""}

    def _more_fields(self) -> list[pa.Field]:
        latent = pa.field("latent", latent_type(self.generator.n_latent, self.generator.w_dim))
        return [*([] if self.params.pivot == "encoder" else [latent]), *(self.edits.fields if self.edits else [])]


def row_seed(key: str) -> int:
    """Return the seed of a row's random stream: 63 bits of the hash of its key."""
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big") >> 1
