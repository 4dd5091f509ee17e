"""The edit stage of runs that keep no tuned weights: the tune stage has drawn the edits already."""

from collections.abc import Sequence
from typing import Any, ClassVar

from gan_core.rows import Row
from gan_core.runs.stage import Stage


class DrawnEditStage(Stage):
    """Takes over the columns of ``edits`` from the shard of the tune stage."""

    name: ClassVar[str] = "edit"
    inputs: tuple[str, ...] = ("encode", "tune")

    def __init__(self, edits: Stage) -> None:
        self.fields = edits.fields
        self.batch_size = edits.batch_size
        self._identity = edits.identity() | {"drawn_by": "tune"}

    def identity(self) -> dict[str, Any]:
        """That of the edits, and who drew them."""
        return self._identity

    def calculate(self, rows: Sequence[Row]) -> list[Row]:
        """Copy the pictures as they are stored."""
        return [{field.name: row[field.name] for field in self.fields} for row in rows]
