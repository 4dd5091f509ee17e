"""Edits along a direction in StyleSpace, which changes many channels at once."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from gan_core.batching import chunk_size, in_chunks
from gan_core.editing.directions import find_direction, load_directions
from gan_core.editing.planned import PlannedEdit
from gan_core.editing.stylespace import move_styles
from gan_core.edits.base import EDIT_KINDS, EditSetting, ImageEdit
from gan_core.edits.direction import plan_strengths
from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.params import EditSpec
from gan_core.rows import Row


class StyleDirectionSpec(EditSpec):
    """A direction of ``models.directions`` whose space is ``s``, at each strength."""

    kind: Literal["style-direction"] = "style-direction"
    direction: str
    """A name of `edit-dataset directions list`."""
    strengths: Annotated[list[float], Field(min_length=1)]
    """One column of pictures each."""


@EDIT_KINDS.register("style-direction")
class StyleDirectionEdit(ImageEdit[StyleDirectionSpec]):
    """``{kind: style-direction, direction: old, strengths: [4]}``: column ``old@+4``."""

    spec = StyleDirectionSpec

    def __init__(self, spec: StyleDirectionSpec, setting: EditSetting) -> None:
        directions = load_directions(setting.models.directions, setting.generator)
        self.direction, self._file = find_direction(directions.model, spec.direction), directions.sha256
        if self.direction.space != "s":
            raise ParamsError(
                f"edits: {spec.direction!r} is in {self.direction.space}, not in StyleSpace: leave out its kind"
            )

    @classmethod
    def plan(cls, spec: StyleDirectionSpec) -> list[PlannedEdit[StyleDirectionSpec]]:
        return plan_strengths(spec, spec.direction, spec.strengths)

    def describe(self, picture: PlannedEdit[StyleDirectionSpec]) -> dict[str, object]:
        return {"space": "s", "strength": picture.strength}

    def files(self) -> dict[str, str]:
        return {"directions": self._file}

    def draw(
        self, generator: Generator, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit[StyleDirectionSpec]
    ) -> Tensor:
        vector, strength = self.direction.vector, picture.strength
        return in_chunks(lambda w: move_styles(generator, w, vector, strength), w_plus, chunk_size(generator.size))
