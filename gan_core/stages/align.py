"""The first stage: images as they came -> aligned faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

from gan_core.align.crop import align_face
from gan_core.align.framing import UNKNOWN, Framing, complete_sizes, framing_of
from gan_core.align.landmarks import LANDMARK_SOURCES
from gan_core.align.quad import check_landmarks, check_square, face_square, five_points
from gan_core.errors import DataError
from gan_core.geometry import Points
from gan_core.params import AlignParams, Params
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import STAGES, Stage
from gan_core.storage.images import ImageError, decode_image, resize_rounded
from gan_core.storage.keys import Dataset
from gan_core.storage.shards import CROP_FIELDS, IMAGE, is_cropped

ENCODER_INPUT = "encoder_input"
"""The column of what the encoder sees of pictures that are taken whole."""
PICTURE = "align/picture"
"""Where a loaded row has its decoded picture."""
TOGETHER = 4
"""Rows of a batch, at most: decoded pictures may have 64 million pixels each."""


@STAGES.register("align")
class AlignStage(Stage):
    """Decodes, finds the landmarks and crops the face square of every row, or of pictures in a frame the part in it.

    Adds ``image`` (``params.size`` squared or the ``frame`` of that), ``landmarks`` [5][2] and ``quad`` [4][2]
    (top left, bottom left, bottom right, top right), both in pixels of the decoded, upright source image. A source of
    landmarks that takes pictures whole adds ``encoder_input``, the picture as published loaders resize it for an
    encoder that sees ``seen`` (height and width). Rows are rejected as ``no_face``, ``many_faces``,
    ``degenerate_landmarks``, ``ambiguous_landmarks``, ``tiny_face``, ``out_of_frame`` or with a status of
    ``decode_image``.
    """

    name: ClassVar[str] = "align"
    version: ClassVar[int] = 3
    inputs: tuple[str, ...] = ("source",)
    fields: Sequence[pa.Field] = (
        pa.field("image", IMAGE),
        *CROP_FIELDS,
    )

    def __init__(
        self,
        source: str,
        params: AlignParams,
        checkpoint: str = "",
        batch_size: int = 32,
        framing: Framing = UNKNOWN,
    ) -> None:
        self.source, self.reads = source, {self.name: "image"}
        self.params = complete_sizes(params, framing.aligned)
        self.size, self.transform_size = self.params.size or 0, self.params.transform_size or 0
        self.batch_size = min(batch_size, TOGETHER)
        self.frame = framing.frame
        self.landmark_source = LANDMARK_SOURCES.get(params.landmarks)(checkpoint, params.faces)
        self.landmark_source.dataset = source
        self.landmark_source.frame = framing.frame
        self.seen = framing.seen if self.landmark_source.whole else None
        if self.seen:
            self.fields = (*type(self).fields, pa.field(ENCODER_INPUT, IMAGE))

    @classmethod
    def build(cls, params: Params, source: str) -> AlignStage:
        """Build the stage from ``align``, ``models`` and ``run.batch_size``, framed as the encoder does."""
        return cls.framed(params, source, framing_of(params))

    @classmethod
    def framed(cls, params: Params, source: str, framing: Framing) -> AlignStage:
        """Build the stage for another encoder than that of ``models``."""
        return cls(source, params.align, params.models.landmarks, params.run.batch_size, framing)

    def identity(self) -> dict[str, Any]:
        """The parameters, the frame if it isn't the square, and where a network finds the landmarks, its hash."""
        framed = {} if self.frame.is_square else {"frame": [self.frame.height, self.frame.width]}
        seen = {ENCODER_INPUT: list(self.seen)} if self.seen else {}
        return {"params": self.params.model_dump(), **framed, **seen, **self.landmark_source.identity()}

    def check(self, dataset: Dataset) -> None:
        """Raise ``DataError`` also for shards without landmarks of their pictures, where the rows have to have them."""
        super().check(dataset)
        for shard, schema in dataset.schemas.items():
            self.landmark_source.check_columns(schema.names, shard)
            if self.landmark_source.needs == "landmarks" and is_cropped(schema):
                raise DataError(
                    f"align.landmarks: the landmarks in {shard} are in pixels of the pictures that its own were "
                    "cropped from: choose 'aligned', which takes them as they are, or another source, such as 'mtcnn'"
                )

    def load(self, row: Row) -> Row | Rejected:
        """Decode the picture."""
        try:
            picture = decode_image((row["image"] or {}).get("bytes") or b"", self.params.max_pixels)
        except ImageError as error:
            return Rejected(error.status, error.reason)
        return row | {PICTURE: picture}

    def calculate(self, rows: Sequence[Row]) -> Sequence[Points | Rejected]:
        """Find the landmarks in all pictures of a batch; those that are taken whole have none, ``[0, 2]``."""
        if self.landmark_source.whole:
            return [np.empty((0, 2))] * len(rows)
        return self.landmark_source.locate([row[PICTURE] for row in rows], rows)

    def store(self, row: Row, made: Points) -> Row | Rejected:
        """Crop the picture, or take it whole, and encode it."""
        found = self._crop(row[PICTURE], made) if len(made) else self._take(row[PICTURE])
        return found if isinstance(found, Rejected) else super().store(row, found)

    def _take(self, image: Image.Image) -> Row | Rejected:
        """Take a picture whole; one of another proportion than the frame is squeezed."""
        width, height = image.size
        if min(width, height) < self.params.min_face_px:
            return Rejected("tiny_face", f"the picture is {width}x{height} px, below {self.params.min_face_px:g} px")
        right, bottom = width - 0.5, height - 0.5  # the centre of the first pixel is at (0, 0)
        corners = [[-0.5, -0.5], [-0.5, bottom], [right, bottom], [right, -0.5]]
        columns: Row = {
            "image": np.asarray(resize_rounded(image, self.frame.shape(self.size))),
            "landmarks": None,
            "quad": np.array(corners, np.float32),
        }
        return columns | ({ENCODER_INPUT: np.asarray(resize_rounded(image, self.seen))} if self.seen else {})

    def _crop(self, image: Image.Image, landmarks: Points) -> Row | Rejected:
        square = face_square(landmarks)
        rejected = check_landmarks(landmarks) or check_square(square, *image.size, self.params.min_face_px)
        if rejected:
            return rejected
        padding = self.params.enable_padding and not self.landmark_source.virtual
        face = align_face(image, square, self.size, self.transform_size, padding, self.frame)
        return {
            "image": np.asarray(face),
            "landmarks": None if self.landmark_source.virtual else five_points(landmarks).astype(np.float32),
            "quad": square.framed(self.frame).astype(np.float32),
        }
