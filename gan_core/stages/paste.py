"""The stage that puts edited faces back into their photographs."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from gan_core.align.paste import paste_face
from gan_core.edits.plan import plan_edits
from gan_core.params import Params, PasteParams
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import STAGES, Stage
from gan_core.stages.encode import MOST_ALIGNED
from gan_core.storage.images import decode_image
from gan_core.storage.shards import IMAGE

SUFFIX = "/pasted"


@STAGES.register("paste")
class PasteStage(Stage):
    """Lays each edited face on the square that it was cut from, with a soft edge.

    Adds one image column for each of ``columns``, ``<edit>/pasted``, as large as the upright source image.
    """

    name: ClassVar[str] = "paste"
    inputs: tuple[str, ...] = ("source", "align", "edit")

    def __init__(self, source: str, params: PasteParams, columns: Sequence[str], max_pixels: int) -> None:
        self.source = source
        self.params = params
        self.max_pixels = max_pixels
        self.columns = list(columns)
        self.fields: Sequence[pa.Field] = [pa.field(f"{column}{SUFFIX}", IMAGE) for column in self.columns]
        self.batch_size = 4

    @classmethod
    def build(cls, params: Params, source: str) -> "PasteStage":
        """Build the stage from ``paste``, ``edits`` and ``align.max_pixels``."""
        columns = [edit.column for edit in plan_edits(params.edits)]
        return cls(source, params.paste, columns, params.align.max_pixels)

    def identity(self) -> dict[str, Any]:
        """The parameters and which pictures are pasted."""
        return {"params": self.params.model_dump(), "columns": self.columns}

    def calculate(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Leave the rows as they are: pasting is no work for a device."""
        return rows

    def store(self, row: Row, made: Row) -> Row | Rejected:
        """Paste all pictures of a row."""
        photo = decode_image(row["source/image"]["bytes"], self.max_pixels)
        quad = np.array(list(row["quad"]), dtype=np.float64)
        pasted: Row = {}
        for column in self.columns:
            face = decode_image(row[column]["bytes"], MOST_ALIGNED)
            pasted[f"{column}{SUFFIX}"] = np.asarray(paste_face(photo, face, quad, self.params.feather))
        return super().store(row, pasted)
