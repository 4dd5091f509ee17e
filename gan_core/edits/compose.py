"""Compositions as edits: any operation of ``gan_core.compose`` with the row as its first source."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor

from gan_core.batching import one_thread
from gan_core.compose.base import OPERATIONS, check_composer, check_number, open_operation
from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import EDIT_KINDS, EditSetting, ImageEdit, hash_latents
from gan_core.errors import ParamsError, UserError
from gan_core.generators.base import Generator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.params import CompositionSpec, EditSpec, check_composition
from gan_core.rows import Row
from gan_core.storage.images import ImageError

PLAN_ONLY = ("sources", "count", "group", "seed", "column")


class ComposeEditSpec(EditSpec):
    """A composition of the row with other rows."""

    kind: Literal["compose"] = "compose"
    apply: Annotated[SerializeAsAny[CompositionSpec], BeforeValidator(check_composition)]
    """An entry as in `compose.plan`."""
    references: tuple[str, ...] = ()
    """Keys of the sources after the row."""


@EDIT_KINDS.register("compose")
class ComposeEdit(ImageEdit[ComposeEditSpec]):
    """``{kind: compose, apply: {operation: transfer, boxes: [eyes]}, references: [KEY]}``: one column, ``transfer``."""

    spec = ComposeEditSpec
    of_one = False

    def __init__(self, spec: ComposeEditSpec, setting: EditSetting) -> None:
        operation = OPERATIONS.get(spec.apply.operation)
        check_number(operation, spec.apply.operation, 1 + len(spec.references))
        if planned := sorted(set(PLAN_ONLY) & spec.apply.model_fields_set):
            raise ParamsError(
                f"edits: {', '.join(planned)} of {spec.apply.operation} belong to compose.plan: an edit is applied "
                "to every row, and `references` names the other sources"
            )
        self.operation = open_operation(spec.apply, setting.models, check_composer(setting.generator))
        self.references = setting.latents_of(spec.references) if spec.references else None

    @classmethod
    def plan(cls, spec: ComposeEditSpec) -> list[PlannedEdit[ComposeEditSpec]]:
        return [PlannedEdit(spec, spec.apply.name or spec.apply.operation)]

    def describe(self, picture: PlannedEdit[ComposeEditSpec]) -> dict[str, object]:
        applied = picture.spec.apply.model_dump(mode="json", exclude=set(PLAN_ONLY))
        return {"apply": applied} | ({} if self.references is None else {"references": hash_latents(self.references)})

    def files(self) -> dict[str, str]:
        return self.operation.files()

    def draw(
        self, generator: Generator, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit[ComposeEditSpec]
    ) -> Tensor:
        """Draw ``[B, 3, H, W]``, a composition for each row.

        Raises ``ImageError`` (``bad_composition``) for a row whose composition is refused.
        """
        assert isinstance(generator, StyleGAN2)
        try:
            with one_thread():
                return torch.cat([self.operation.draw(generator, self._group(code)).image for code in w_plus])
        except UserError as error:
            raise ImageError("bad_composition", str(error)) from None

    def _group(self, code: Tensor) -> Tensor:
        return code[None] if self.references is None else torch.cat([code[None], self.references])
