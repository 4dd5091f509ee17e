"""Edits by a reference: transfer an attribute from another row of the dataset."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from gan_core.batching import in_chunks
from gan_core.editing.latent_editor import load_editor
from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import EDIT_KINDS, EditSetting, LatentEdit, hash_latents
from gan_core.errors import ParamsError, near_matches
from gan_core.params import EditSpec
from gan_core.rows import Row, row_seed
from gan_core.sections import Positive, as_list


class ReferenceSpec(EditSpec):
    """An attribute is taken from another row."""

    kind: Literal["reference"] = "reference"
    attribute: str
    """A name that `models.latent_edits` has a block for."""
    reference: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)]
    """The key of that row; of several, each row's own key chooses one."""
    strength: Positive = 1.0
    """What the change is multiplied by."""


@EDIT_KINDS.register("reference")
class ReferenceEdit(LatentEdit[ReferenceSpec]):
    """``{kind: reference, attribute: smile, reference: [a.png, b.png]}``: column ``smile@reference``."""

    spec = ReferenceSpec

    def __init__(self, spec: ReferenceSpec, setting: EditSetting) -> None:
        loaded = load_editor(setting.models.latent_edits, setting.generator)
        self.editor, self._file = loaded.model, loaded.sha256
        if spec.attribute not in self.editor.blocks:
            known = list(self.editor.blocks)
            raise ParamsError(
                f"edits: no block transfers {spec.attribute!r}{near_matches(spec.attribute, known)}; add it to "
                "train_latent_edits.blocks in toy.yaml and train again"
            )
        self.references = setting.latents_of(spec.reference)

    @classmethod
    def plan(cls, spec: ReferenceSpec) -> list[PlannedEdit[ReferenceSpec]]:
        return [PlannedEdit(spec, f"{spec.attribute}@reference", spec.attribute, spec.strength, directed=False)]

    def describe(self, picture: PlannedEdit[ReferenceSpec]) -> dict[str, object]:
        return picture.spec.model_dump() | {"latents": hash_latents(self.references)}

    def files(self) -> dict[str, str]:
        return {"latent_edits": self._file}

    def edit(self, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit[ReferenceSpec]) -> Tensor:
        spec = picture.spec
        chosen = [row_seed(row["key"]) % len(self.references) for row in rows]
        pairs = torch.stack([w_plus, self.references[chosen].to(w_plus)], dim=1)
        return in_chunks(lambda p: self.editor.transfer(p[:, 0], p[:, 1], spec.attribute, spec.strength), pairs)
