"""One image of an edit plan."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from gan_core.params import EditSpec

S = TypeVar("S", bound=EditSpec, covariant=True)


@dataclass(frozen=True)
class PlannedEdit(Generic[S]):
    """An image to make from every row, as an entry ``spec`` of the edit plan asks for.

    ``column`` names the image column, the scores and the entry in the report. ``target`` is the attribute that the edit
    should change (empty for none), and ``strength`` is in the unit of the kind of edit. ``move`` is what ``strength``
    is multiplied with where an entry of the plan scales a move of its own. ``directed`` is off where each row decides
    whether its attribute goes up or down.
    """

    spec: S
    column: str
    target: str = ""
    strength: float = 1.0
    move: float = 1.0
    directed: bool = True
