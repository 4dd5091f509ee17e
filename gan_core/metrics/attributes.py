"""What an edit changed: the attribute it is for, as a share of that attribute's range, and the others by mistake."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor

from gan_core.device import fetch
from gan_core.editing.planned import PlannedEdit
from gan_core.judges.face_attributes import load_attributes
from gan_core.judges.pictures import Pictures
from gan_core.meaning import Meaning
from gan_core.metrics.base import ENCODED, METRICS, TUNED, Columns, Faces, RowMetric, ScoreName, Setting

SIDE_EFFECT = "side_effect"


class AttributeReader(Protocol):
    """What reads attributes of pictures: their ``names``, and the ``suffix`` of its columns."""

    names: list[str]
    suffix: str

    def identity(self) -> dict[str, Any]:
        """Hashes of its networks."""
        ...

    def values(self, pictures: Pictures, picture: str) -> Tensor:
        """Values ``[B, len(names)]`` of one picture of each row, on [-1, 1]."""
        ...


def range_shares(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Change between attribute values on [-1, 1], ``[B, A]``, as a share of the range: 1 is from end to end."""
    return (after.astype(np.float64) - before.astype(np.float64)) / 2


def side_effect(shares: np.ndarray, wanted: int | None) -> np.ndarray:
    """Mean absolute change ``[B]`` of all attributes but the ``wanted`` column; all of them if that is ``None``.

    It is 0 where there is no other.
    """
    others = [i for i in range(shares.shape[1]) if i != wanted]
    return np.abs(shares[:, others]).mean(1) if others else np.zeros(len(shares))


@METRICS.register("attributes")
class AttributeChange(RowMetric):
    """Per edit, against the reconstruction it started from: ``<attribute>/<edit>`` and ``side_effect/<edit>``.

    An edit whose target is no attribute has the side effect only. With a published regressor its name is part of the
    columns: ``age/fairface/<edit>``.
    """

    name: ClassVar[str] = "attributes"
    faces: ClassVar[Faces] = "pictures"
    meaning: ClassVar[Meaning] = Meaning(
        "Side effect", "", "lower", 3, "Mean change of all other attributes, as a share of their ranges."
    )
    change: ClassVar[Meaning] = Meaning(
        "", digits=2, sentence="Change of the edited attribute, as a share of its range.", signed=True
    )

    @classmethod
    def explain(cls, name: ScoreName, edits: Sequence[PlannedEdit] = ()) -> Meaning | None:
        if name.metric == SIDE_EFFECT:
            return cls.meaning.by(name.extractor)
        if any(edit.target == name.metric and edit.column == name.picture for edit in edits):
            return replace(cls.change, label=name.metric.replace("_", " ").capitalize()).by(name.extractor)
        return None

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.extractor: AttributeReader = self.load(setting)

    @classmethod
    def load(cls, setting: Setting) -> AttributeReader:
        """Load what reads the attributes."""
        return load_attributes(setting.models)

    @property
    def columns(self) -> list[str]:
        names = []
        for edit in self.setting.edits:
            names += [self._column(edit.target, edit.column)] if edit.target in self.extractor.names else []
            names.append(self._column(SIDE_EFFECT, edit.column))
        return names

    def identity(self) -> dict[str, Any]:
        return self.extractor.identity()

    def score(self, pictures: Pictures) -> Columns:
        columns: Columns = {}
        if self.setting.edits:
            before = fetch(self.extractor.values(pictures, TUNED if self.setting.tuned else ENCODED))
        for edit in self.setting.edits:
            shares = range_shares(before, fetch(self.extractor.values(pictures, edit.column)))
            names = self.extractor.names
            wanted = names.index(edit.target) if edit.target in names else None
            if wanted is not None:
                columns[self._column(edit.target, edit.column)] = shares[:, wanted]
            columns[self._column(SIDE_EFFECT, edit.column)] = side_effect(shares, wanted)
        return columns

    def _column(self, name: str, picture: str) -> str:
        return f"{name}{self.extractor.suffix}/{picture}"
