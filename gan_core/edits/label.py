"""Edits by a label: switch an attribute on or off."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from pydantic import field_validator
from torch import Tensor

from gan_core.device import CHUNK, widest
from gan_core.editing.label import move_to_label
from gan_core.editing.latent_editor import LatentEditor, load_editor
from gan_core.editing.planned import PlannedEdit
from gan_core.edits.base import EDIT_KINDS, EditSetting, LatentEdit
from gan_core.params import EditSpec
from gan_core.rows import Row, row_seed
from gan_core.sections import Count, Positive


class LabelSpec(EditSpec):
    """An attribute is switched on or off; rows that have the label stay as they are."""

    kind: Literal["label"] = "label"
    attribute: str
    """A name that the classifier of `models.latent_edits` knows."""
    target: Literal["on", "off"] = "on"
    """The upper half of the attribute's range, or the lower."""
    strength: Positive = 1.0
    """How far each latent moves, in typical distances from the mean latent."""
    steps: Count = 4
    """Steps in which it moves."""
    order: Literal[1, 2] = 2
    """Each step follows the gradient (1), or the direction of largest curvature (2)."""

    @field_validator("target", mode="before")
    @classmethod
    def _accept_yaml_words(cls, value: object) -> object:
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


@EDIT_KINDS.register("label")
class LabelEdit(LatentEdit[LabelSpec]):
    """``{kind: label, attribute: glasses, target: on}``: column ``glasses@on``. Rows with the label stay unchanged."""

    spec = LabelSpec

    def __init__(self, spec: LabelSpec, setting: EditSetting) -> None:
        loaded = load_editor(setting.models.latent_edits, setting.generator)
        self.editor, self._file = loaded.model, loaded.sha256
        self.column = self.editor.column(spec.attribute)

    @classmethod
    def plan(cls, spec: LabelSpec) -> list[PlannedEdit[LabelSpec]]:
        strength = spec.strength if spec.target == "on" else -spec.strength
        return [PlannedEdit(spec, f"{spec.attribute}@{spec.target}", spec.attribute, strength)]

    def describe(self, picture: PlannedEdit[LabelSpec]) -> dict[str, object]:
        return picture.spec.model_dump()

    def files(self) -> dict[str, str]:
        return {"latent_edits": self._file}

    def edit(self, w_plus: Tensor, rows: Sequence[Row], picture: PlannedEdit[LabelSpec]) -> Tensor:
        keys = [row["key"] for row in rows]
        starts = range(0, len(rows), CHUNK)
        return torch.cat([self._move(w_plus[i : i + CHUNK], keys[i : i + CHUNK], picture.spec) for i in starts])

    def _move(self, w_plus: Tensor, keys: Sequence[str], spec: LabelSpec) -> Tensor:
        """Move a chunk of a fixed size (in float64 on the CPU), so that a row's result doesn't depend on other rows."""
        filled = widest(torch.cat([w_plus, w_plus[-1:].expand(CHUNK - len(keys), -1, -1)]))
        seeds = [row_seed(key) for key in [*keys, *[keys[-1]] * (CHUNK - len(keys))]]
        noise = [torch.randn(w_plus.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        editor, target = self.editor.to(filled.dtype), spec.target == "on"
        logits = partial(_logit, editor, self.column)
        with torch.no_grad():
            there = (logits(filled) > 0) == target
        start = torch.stack(noise).to(filled) if spec.order == 2 else None
        moved = move_to_label(logits, filled, target, spec.strength * editor.length, start, spec.steps)
        return torch.where(there[:, None, None], filled, moved)[: len(keys)].to(w_plus.dtype)


def _logit(editor: LatentEditor, column: int, w_plus: Tensor) -> Tensor:
    return editor.logits(w_plus)[:, column]
