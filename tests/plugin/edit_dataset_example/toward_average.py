"""A kind of edit: the latent moves toward the average latent, and the face toward the average face."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import EditSetting, LatentEdit
from gan_core.params import EditSpec
from gan_core.rows import Row
from gan_core.sections import Unit


class TowardAverageSpec(EditSpec):
    """``{kind: toward-average, shares: [0.3, 0.6]}``: 0 leaves the latent as it is, 1 makes it the average latent."""

    kind: Literal["toward-average"] = "toward-average"
    shares: Annotated[tuple[Unit, ...], Field(min_length=1)]


class TowardAverageEdit(LatentEdit):
    """Moves latents toward the average latent of the generator; columns such as ``toward-average@0.3``."""

    spec = TowardAverageSpec

    def __init__(self, spec: TowardAverageSpec, setting: EditSetting) -> None:
        self.average = setting.generator.model.latent_avg

    @classmethod
    def plan(cls, spec: TowardAverageSpec) -> list[PlannedEdit]:
        return [PlannedEdit(spec, f"toward-average@{share:g}", strength=share) for share in spec.shares]

    def describe(self, picture: PlannedEdit) -> dict[str, Any]:
        return {"kind": "toward-average", "share": picture.strength}

    def edit(self, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit) -> Tensor:
        return w_plus.lerp(self.average.to(w_plus), picture.strength)
