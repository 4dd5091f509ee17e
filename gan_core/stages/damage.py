"""The stage that makes other pictures of a face: views of the same person, and damages of known strength."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image, ImageFilter

from gan_core.align.crop import align_face
from gan_core.align.quad import FaceSquare
from gan_core.params import AlignParams, Params
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import STAGES, Stage
from gan_core.stages.encode import MOST_ALIGNED
from gan_core.storage.images import decode_image
from gan_core.storage.shards import IMAGE

CROP, MIRROR, GREY = VIEWS = ("crop", "mirror", "grey")
"""The same face cut from the photograph again, a little aside; mirrored; without its colours."""
DAMAGES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "blur": (1, 2, 4, 8, 16),
        "noise": (8, 16, 32, 64, 96),
        "jpeg": (60, 30, 15, 8, 3),
        "scale": (2, 4, 8, 12, 16),
    }
)
"""Strengths of each damage, weakest first: standard deviations in pixels of a face of 256 and in levels of 255,
quality, and reduction."""
REFERENCE = 256
SHIFT, TURN, LARGER = 0.03, 0.06, 1.06
"""How the second crop differs: by a share of the side to the right and down, in radians, and in size.

These are about the differences between two sources of landmarks.
"""


def damage_columns() -> list[str]:
    """Return the columns of all damages, ``<kind>@<strength>``."""
    return [f"{kind}@{strength:g}" for kind, strengths in DAMAGES.items() for strength in strengths]


def damaged(face: Image.Image, kind: str, strength: float) -> Image.Image:
    """Damage a square RGB image, by one of ``DAMAGES``."""
    size = face.width
    if kind == "blur":
        return face.filter(ImageFilter.GaussianBlur(strength * size / REFERENCE))
    if kind == "noise":
        noise = np.random.default_rng(0).normal(0, strength, (size, size, 3))
        return Image.fromarray(np.uint8(np.clip(np.rint(np.asarray(face) + noise), 0, 255)))
    if kind == "jpeg":
        file = io.BytesIO()
        face.save(file, "JPEG", quality=int(strength))
        return Image.open(file).convert("RGB")
    small = face.resize((max(round(size / strength), 1),) * 2, Image.Resampling.LANCZOS)
    return small.resize((size, size), Image.Resampling.BICUBIC)


def aside(square: FaceSquare) -> FaceSquare:
    """Return a square that shows the same face from a little aside."""
    cos, sin = np.cos(TURN), np.sin(TURN)
    half = np.array([[cos, -sin], [sin, cos]]) @ square.half * LARGER
    return FaceSquare(square.centre + SHIFT * square.side, half)


@STAGES.register("damage")
class DamageStage(Stage):
    """Adds an image column for each of ``VIEWS`` and for each strength of ``DAMAGES``, as large as the aligned face."""

    name: ClassVar[str] = "damage"
    inputs: tuple[str, ...] = ("source", "align")

    def __init__(self, source: str, params: AlignParams) -> None:
        self.source = source
        self.params = params
        self.fields: Sequence[pa.Field] = [pa.field(name, IMAGE) for name in (*VIEWS, *damage_columns())]
        self.batch_size = 4  # photographs in memory

    @classmethod
    def build(cls, params: Params, source: str) -> DamageStage:
        """Build the stage from ``align``, whose sizes must be set."""
        return cls(source, params.align)

    def identity(self) -> dict[str, Any]:
        """What is made, and how the faces were cut."""
        damages = {kind: list(strengths) for kind, strengths in DAMAGES.items()}
        cut = {"second_crop": [SHIFT, TURN, LARGER], "transform_size": self.params.transform_size}
        return {"views": list(VIEWS), "damages": damages, **cut}

    def calculate(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Leave the rows as they are: damaging is no work for a device."""
        return rows

    def store(self, row: Row, made: Row) -> Row | Rejected:
        """Make all pictures of a row."""
        face = decode_image(row["image"]["bytes"], MOST_ALIGNED)
        faces = {CROP: self._cut(row, face.width), MIRROR: face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)}
        faces[GREY] = face.convert("L").convert("RGB")
        for kind, strengths in DAMAGES.items():
            faces |= {f"{kind}@{strength:g}": damaged(face, kind, strength) for strength in strengths}
        return super().store(row, {name: np.asarray(picture) for name, picture in faces.items()})

    def _cut(self, row: Row, size: int) -> Image.Image:
        photograph = decode_image(row["source/image"]["bytes"], self.params.max_pixels)
        corners = np.array(list(row["quad"]), dtype=np.float64)
        centre = corners.mean(axis=0)
        square = FaceSquare(centre, (corners[2] + corners[3]) / 2 - centre)
        return align_face(photograph, aside(square), size, self.params.transform_size or size)
