"""The first stage: images as they came -> aligned faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from gan_core.align.crop import align_face
from gan_core.align.landmarks import LANDMARK_SOURCES
from gan_core.align.quad import check_landmarks, check_square, face_square, five_points
from gan_core.geometry import Points
from gan_core.params import AlignParams, Params
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import STAGES, Stage
from gan_core.storage.images import ImageError, decode_image, encode_png, image_value
from gan_core.storage.shards import IMAGE, latent_type


@STAGES.register("align")
class AlignStage(Stage):
    """Decodes, finds the landmarks and crops the face square of every row.

    Adds ``image`` (PNG, ``params.size`` squared), ``landmarks`` [5][2] and ``quad`` [4][2] (top left, bottom left,
    bottom right, top right), both in pixels of the decoded, upright source image. Rows are rejected as ``no_face``,
    ``many_faces``, ``degenerate_landmarks``, ``ambiguous_landmarks``, ``tiny_face``, ``out_of_frame`` or with a status
    of ``decode_image``.
    """

    name: ClassVar[str] = "align"
    version: ClassVar[int] = 2
    inputs: tuple[str, ...] = ("source",)
    fields: Sequence[pa.Field] = (
        pa.field("image", IMAGE),
        pa.field("landmarks", latent_type(5, 2)),
        pa.field("quad", latent_type(4, 2)),
    )

    def __init__(self, source: str, params: AlignParams, checkpoint: str = "", batch_size: int = 32) -> None:
        self.source = source
        self.params = params
        self.batch_size = batch_size
        self.landmark_source = LANDMARK_SOURCES.get(params.landmarks)(checkpoint, params.faces)
        self.landmark_source.dataset = source

    @classmethod
    def build(cls, params: Params, source: str) -> AlignStage:
        """Build the stage from ``align``, ``models.landmarks`` and ``run.batch_size``."""
        return cls(source, params.align, params.models.landmarks, params.run.batch_size)

    def identity(self) -> dict[str, Any]:
        """The parameters and, where a network finds the landmarks, its hash."""
        return {"params": self.params.model_dump(), **self.landmark_source.identity()}

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Align each row."""
        return [self._align(row) for row in rows]

    def _align(self, row: Row) -> Row | Rejected:
        try:
            image = decode_image((row["image"] or {}).get("bytes") or b"", self.params.max_pixels)
        except ImageError as error:
            return Rejected(error.status, error.reason)
        landmarks = self.landmark_source.landmarks(image, row)
        return landmarks if isinstance(landmarks, Rejected) else self._crop(image, landmarks, row["key"])

    def _crop(self, image: Image.Image, landmarks: Points, key: str) -> Row | Rejected:
        square = face_square(landmarks)
        rejected = check_landmarks(landmarks) or check_square(square, *image.size, self.params.min_face_px)
        if rejected:
            return rejected
        padding = self.params.enable_padding and not self.landmark_source.virtual
        face = align_face(image, square, self.params.size, self.params.transform_size, padding)
        return {
            "image": image_value(encode_png(np.asarray(face)), f"{key}.png"),
            "landmarks": None if self.landmark_source.virtual else five_points(landmarks).astype(np.float32),
            "quad": square.corners.astype(np.float32),
        }
