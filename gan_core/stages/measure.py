"""The stage that measures: all pictures of a row -> its scores, and statistics of the shard."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from torch import Tensor

from gan_core.align.framing import framing_of
from gan_core.align.landmarks import LANDMARK_SOURCES
from gan_core.edits.plan import plan_edits
from gan_core.errors import ParamsError
from gan_core.geometry import average_down
from gan_core.judges.pictures import Pictures
from gan_core.metrics.base import ALIGNED, ENCODED, METRICS, TUNED, Columns, Metric, Setting, States
from gan_core.metrics.statistics import merge_into, pack
from gan_core.params import EditSpec, MeasureParams, ModelPaths, Params
from gan_core.registry import place_of
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import STAGES, Stage
from gan_core.storage.images import load_pictures, stack_pictures

COLUMNS = {ALIGNED: "image", ENCODED: "reconstruction", TUNED: "tuned"}


@STAGES.register("measure")
class MeasureStage(Stage):
    """Scores the reconstructions and edits of every row against its aligned image, and each edit by its attribute.

    If aligned and drawn images differ in size, the larger ones are averaged down to the smaller first, as pSp does.
    ``compared`` states that size (height and width) where it is known beforehand, as part of the identity. ``made``
    names image columns that are compared in place of reconstructions, and ``inputs`` must then be set. Adds one
    float32 column per score. A row is rejected as ``bad_score`` where a score isn't finite.
    """

    name: ClassVar[str] = "measure"
    version: ClassVar[int] = 2
    inputs: tuple[str, ...] = ("align", "encode", "tune", "edit")

    def __init__(
        self,
        params: MeasureParams,
        edits: Sequence[EditSpec],
        models: ModelPaths,
        tuned: bool,
        batch_size: int = 32,
        compared: tuple[int, int] | None = None,
        made: tuple[str, ...] = (),
    ) -> None:
        self.compared = compared
        self.setting = Setting(params, models, tuple(plan_edits(edits)), tuned, made)
        self.batch_size = batch_size
        self.inputs = tuple(stage for stage in type(self).inputs if tuned or stage != "tune")
        self.metrics: dict[str, Metric] = {name: METRICS.get(name)(self.setting) for name in params.metrics}
        columns = [column for metric in self.metrics.values() for column in metric.columns]
        self.fields: Sequence[pa.Field] = [pa.field(column, pa.float32()) for column in columns]
        self._states: dict[str, States] = {name: {} for name in self.metrics}

    @classmethod
    def build(cls, params: Params, source: str) -> "MeasureStage":
        """Build the stage from ``measure``, ``edits``, ``models`` and ``align.size``.

        Raises ``ParamsError`` for judges of faces where ``align`` looks for none.
        """
        check_faces(params)
        models, tuned, compared = params.models, params.tune.enabled, framing_of(params).compared
        return cls(params.measure, params.edits, models, tuned, params.run.batch_size, compared)

    def identity(self) -> dict[str, Any]:
        """The metrics, what they compare at which size, and the hashes of their networks."""
        hashes = {name: digest for metric in self.metrics.values() for name, digest in metric.identity().items()}
        compared = {"compared": list(self.compared)} if self.compared else {}
        pictures = list(self.setting.pictures)
        return {"params": self.setting.params.model_dump(), "pictures": pictures, **compared, **hashes}

    def load(self, row: Row) -> Row:
        """Decode all pictures of a row."""
        return load_pictures(row, [COLUMNS.get(name, name) for name in (ALIGNED, *self.setting.pictures)])

    def calculate(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Score each row, then add the rows that have finite scores to the statistics."""
        pictures = self._pictures(rows)
        columns = self._score(pictures)
        broken = [self._broken(columns, i) for i in range(len(rows))]
        if any(broken):
            return self._without(rows, broken)
        drafts: dict[str, States] = {name: {} for name in self.metrics}
        for name, metric in self.metrics.items():
            metric.update(drafts[name], pictures, columns)
        merge_into(self._states, drafts)  # after all that may fail: a row that is tried again counts once
        return [{name: float(values[i]) for name, values in columns.items()} for i in range(len(rows))]

    def statistics(self) -> dict[str, np.ndarray]:
        """Statistics of the rows since the last call, by ``<metric>|<name>|<field>``."""
        packed = pack(self._states)
        self._states = {name: {} for name in self.metrics}
        return packed

    def _score(self, pictures: Pictures) -> Columns:
        scores: Columns = {}
        for name, metric in self.metrics.items():
            scores |= _check_scores(name, metric, metric.score(pictures), len(pictures.keys))
        return scores

    def _pictures(self, rows: Sequence[Row]) -> Pictures:
        names = (ALIGNED, *self.setting.pictures)
        images = match_sizes({name: stack_pictures(rows, COLUMNS.get(name, name)) for name in names})
        height, width = images[ALIGNED].shape[2:]
        points = [landmarks_in_crop(row, width, height) for row in rows]
        return Pictures(images, [row["key"] for row in rows], points=points)

    @staticmethod
    def _broken(columns: Columns, row: int) -> str:
        return next((name for name, values in columns.items() if not np.isfinite(values[row])), "")

    def _without(self, rows: Sequence[Row], broken: Sequence[str]) -> list[Row | Rejected]:
        good = [row for row, name in zip(rows, broken, strict=True) if not name]
        scored = iter(self.calculate(good) if good else [])
        return [Rejected("bad_score", f"{name} is not a number") if name else next(scored) for name in broken]


def _check_scores(name: str, metric: Metric, scores: Columns, rows: int) -> Columns:
    """Return the scores of a metric; raises ``ParamsError`` unless it has one for each column and row."""
    given = {column: np.shape(values) for column, values in scores.items()}
    wanted = dict.fromkeys(metric.columns, (rows,))
    if given == wanted:
        return scores
    column = next(column for column in [*wanted, *given] if given.get(column) != wanted.get(column))
    found = f"scores {list(given[column])}" if column in given else "no scores"
    asked = f"[{rows}] are needed" if column in wanted else "its columns do not name it"
    raise ParamsError(
        f"metric {name!r} ({place_of(type(metric))}) gives {found} for {column!r}, and {asked}: correct its `score`"
    )


def check_faces(params: Params) -> None:
    """Raise ``ParamsError`` if a metric judges photographs of faces, and ``align.landmarks`` looks for no faces."""
    source = LANDMARK_SOURCES.get(params.align.landmarks)
    of_faces = [name for name in params.measure.metrics if METRICS.get(name).faces == "located"]
    if of_faces and source.virtual and not source.whole:
        raise ParamsError(
            f"measure.metrics: {', '.join(of_faces)} judge faces, and align.landmarks={params.align.landmarks} looks "
            "for none: measure=photos-things has the metrics for other pictures"
        )


def match_sizes(images: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Average images ``[B, 3, H, W]`` of the aligned or the drawn size, whichever is larger, down to the other.

    The drawn size is that of the reconstruction; images of another size, such as panoramas, stay as they are.
    """
    aligned, drawn = images[ALIGNED].shape[2:], images.get(ENCODED, images[ALIGNED]).shape[2:]
    if aligned == drawn:
        return images
    larger, (height, width) = sorted([aligned, drawn], reverse=True)
    return {n: average_down(x, (height, width)) if x.shape[2:] == larger else x for n, x in images.items()}


def landmarks_in_crop(row: Row, width: int, height: int) -> np.ndarray | None:
    """A row's landmarks ``[5, 2]`` in pixels of its aligned image, the first pixel's centre at (0, 0); None without."""
    if row.get("landmarks") is None:
        return None
    points, quad = (np.array(list(row[name]), dtype=np.float64) for name in ("landmarks", "quad"))
    sides = np.stack([quad[3] - quad[0], quad[1] - quad[0]])
    shares = (points - quad[0]) @ sides.T / np.square(sides).sum(axis=1)
    return shares * (width, height) - 0.5
