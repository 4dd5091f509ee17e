"""The edit plan of a run: one entry, and one image column, per direction and strength."""

from collections.abc import Sequence
from dataclasses import dataclass

from gan_core.errors import ParamsError
from gan_core.params import EditParams


@dataclass(frozen=True)
class PlannedEdit:
    """One picture to make of every row; ``layers`` (first, past the last) replaces the direction's own range."""

    direction: str
    strength: float
    layers: tuple[int, int] | None = None

    @property
    def column(self) -> str:
        """The name of the edit everywhere: the image column, the scores, the report."""
        return edit_column(self.direction, self.strength)


def edit_column(direction: str, strength: float) -> str:
    """Return ``<direction>@<signed strength>``, such as ``smile@+1`` or ``yaw@-0.5``."""
    return f"{direction}@{strength:+g}"


def plan_edits(edits: Sequence[EditParams]) -> list[PlannedEdit]:
    """Expand the ``edits`` of ``params.yaml``, in order; raises ``ParamsError`` for two that share a column."""
    planned = [PlannedEdit(e.direction, s, e.layers) for e in edits for s in e.strengths]
    columns = [edit.column for edit in planned]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise ParamsError(
            f"edits: {', '.join(twice)} is planned more than once; give each strength of a direction once"
        )
    return planned
