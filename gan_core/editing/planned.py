"""One picture that an edit plan asks for."""

from dataclasses import dataclass

from gan_core.params import EditSpec


@dataclass(frozen=True)
class PlannedEdit:
    """One picture to make of every row.

    ``column`` is its name everywhere: the image column, the scores, the report. ``target`` is the attribute that it is
    meant to move (empty for none), ``strength`` how far in the kind's own unit.
    """

    spec: EditSpec
    column: str
    target: str = ""
    strength: float = 1.0
