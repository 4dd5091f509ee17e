"""What a metric is: columns for every row, and mergeable statistics for the whole dataset."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from gan_core.editing.planned import PlannedEdit
from gan_core.judges.pictures import Pictures
from gan_core.meaning import Meaning
from gan_core.params import MeasureParams, ModelPaths
from gan_core.registry import Registry

State = dict[str, np.ndarray]
"""Sufficient statistics of one number: arrays by field, float64 unless they are a sample."""
States = dict[str, State]
"""Statistics by the name of what they describe, such as ``"mse/tuned"``."""
Columns = dict[str, np.ndarray]
"""Scores of a batch by column, float ``[B]``."""

ALIGNED = "aligned"
"""The name of the picture that all others of a row are compared with."""
ENCODED = "encoded"
"""The name of the encoder's reconstruction."""
TUNED = "tuned"
"""The name of the reconstruction after tuning."""


class TooFewError(ValueError):
    """There are too few samples for a number to mean anything; the message says how many are needed."""


@dataclass(frozen=True)
class Setting:
    """What a metric is built from; ``tuned`` says whether rows have tuned images, ``edits`` which edits they have.

    ``made`` names other pictures that stand for reconstructions, where nothing was encoded.
    """

    params: MeasureParams
    models: ModelPaths
    edits: Sequence[PlannedEdit] = ()
    tuned: bool = True
    made: tuple[str, ...] = ()

    @property
    def inversions(self) -> tuple[str, ...]:
        """The reconstructions of a row: ``encoded`` and, if there was tuning, ``tuned``."""
        return self.made or ((ENCODED, TUNED) if self.tuned else (ENCODED,))

    @property
    def pictures(self) -> tuple[str, ...]:
        """All pictures made of a row, reconstructions first."""
        return (*self.inversions, *(edit.column for edit in self.edits))


@dataclass
class Summary:
    """Numbers of a dataset by name, and why others were left out."""

    values: dict[str, float] = field(default_factory=dict)
    omitted: dict[str, str] = field(default_factory=dict)


class ScoreName(NamedTuple):
    """The name of a column or of a total, taken apart: ``<metric>[/<extractor>]/<picture>``."""

    metric: str
    extractor: str
    picture: str


Faces = Literal["", "pictures", "located"]


class Metric(ABC):
    """One entry of ``measure.metrics``: scores rows, gathers statistics, and turns merged ones into numbers.

    ``name`` is what it is registered as. Its columns and totals are called ``<name>[/<extractor>]/<picture>``, and
    ``meaning`` says how they are shown. A metric whose numbers have other names, or mean several things, overrides
    ``explain``. ``faces`` says that its numbers mean nothing for pictures of anything else (``pictures``), and that it
    also needs faces that alignment has looked for (``located``).
    """

    name: ClassVar[str]
    meaning: ClassVar[Meaning] = Meaning("")
    faces: ClassVar[Faces] = ""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @classmethod
    def explain(cls, name: ScoreName, edits: Sequence[PlannedEdit] = ()) -> Meaning | None:
        """Return what a number of this metric means, ``None`` for one of another metric; ``edits`` are the run's."""
        return cls.meaning.by(name.extractor) if name.metric == cls.name else None

    @property
    def columns(self) -> list[str]:
        """Names of the row scores, in order."""
        return []

    def identity(self) -> dict[str, Any]:
        """Hashes of the networks that decide the numbers."""
        return {}

    def score(self, pictures: Pictures) -> Columns:
        """Scores of a batch, one array per column."""
        return {}

    @abstractmethod
    def update(self, states: States, pictures: Pictures, columns: Columns) -> None:
        """Add a batch and its scores to the statistics, in place."""

    @classmethod
    def merge(cls, one: State, other: State) -> State:
        """Statistics of two disjoint parts -> of both together."""
        return {name: one[name] + other[name] for name in one}

    @classmethod
    @abstractmethod
    def compute(cls, states: States) -> Summary:
        """Merged statistics -> numbers of the dataset."""


METRICS: Registry[type[Metric]] = Registry("metric", "gan_core.metrics", Metric)


class RowMetric(Metric):
    """A metric whose total is the mean of its column over rows, under the same name."""

    empty: ClassVar[State] = {"n": np.zeros(()), "sum": np.zeros(())}

    def update(self, states: States, pictures: Pictures, columns: Columns) -> None:
        for column in self.columns:
            values = columns[column].astype(np.float64)
            batch = {"n": np.asarray(float(len(values))), "sum": np.asarray(values.sum())}
            states[column] = self.merge(states.get(column, self.empty), batch)

    @classmethod
    def compute(cls, states: States) -> Summary:
        summary = Summary()
        for name, state in states.items():
            if state["n"] < 1:
                summary.omitted[name] = "no row has a score"
            else:
                summary.values[name] = float(state["sum"] / state["n"])
        return summary
