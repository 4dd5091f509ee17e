"""Edits along a linear direction, at several strengths."""

from collections.abc import Sequence

from torch import Tensor

from gan_core.editing.apply import apply_edit, check_layers
from gan_core.editing.directions import find_direction, load_directions
from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import EDIT_KINDS, EditSetting, LatentEdit, S
from gan_core.errors import ParamsError
from gan_core.params import EditParams
from gan_core.rows import Row


def edit_column(direction: str, strength: float) -> str:
    """Return ``<direction>@<signed strength>``, such as ``smile@+1`` or ``yaw@-0.5``."""
    return f"{direction}@{strength:+g}"


def plan_strengths(spec: S, direction: str, strengths: Sequence[float]) -> list[PlannedEdit[S]]:
    """Return the pictures of an entry of the plan: one for each strength along a direction, in order."""
    return [PlannedEdit(spec, edit_column(direction, s), direction, s) for s in strengths]


@EDIT_KINDS.register("direction")
class DirectionEdit(LatentEdit[EditParams]):
    """``{direction: smile, strengths: [-1, 1]}``: adds a direction of ``models.directions`` in its layers or others."""

    spec = EditParams

    def __init__(self, spec: EditParams, setting: EditSetting) -> None:
        generator, directions = setting.generator.model, load_directions(setting.models.directions, setting.generator)
        self.direction, self._file = find_direction(directions.model, spec.direction), directions.sha256
        if self.direction.space == "s":
            raise ParamsError(f"edits: {spec.direction!r} is in StyleSpace: give it the kind style-direction")
        self.layers = check_layers(spec.layers or self.direction.layers, generator.n_latent, spec.direction)

    @classmethod
    def plan(cls, spec: EditParams) -> list[PlannedEdit[EditParams]]:
        return plan_strengths(spec, spec.direction, spec.strengths)

    def describe(self, picture: PlannedEdit[EditParams]) -> dict[str, object]:
        return {"strength": picture.strength, "layers": list(self.layers)}

    def files(self) -> dict[str, str]:
        return {"directions": self._file}

    def edit(self, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit[EditParams]) -> Tensor:
        return apply_edit(w_plus, self.direction, picture.strength, self.layers)
