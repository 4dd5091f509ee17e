"""What is exported: which rows of which stage, which of their pictures, and what each picture is."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from flows.passing import Passing
from gan_core.browse.table import picture_columns
from gan_core.edits.plan import known_edits
from gan_core.errors import DataError, near_matches
from gan_core.importers.names import is_picture
from gan_core.pages.pictures import name_images
from gan_core.rows import Row
from gan_core.runs.run import Run
from gan_core.storage.shards import open_shard, read_rows

_NOT_IN_NAMES = re.compile(r"[^\w@+-]")
LONGEST_NAME = 80


@dataclass(frozen=True)
class Picture:
    """A picture that rows have: its stage and column, and which attribute it changes by how much ("" and 0: none).

    ``label`` names it in files: the column without what files can't be called or what ends a name.
    """

    stage: str
    column: str
    label: str
    attribute: str = ""
    strength: float = 0.0


@dataclass(frozen=True)
class Item:
    """A picture of a row. ``key`` is the row's, or ``<row>/<column>`` where rows have several pictures."""

    position: int
    key: str
    row: str
    picture: Picture
    data: bytes
    suffix: str

    @property
    def about(self) -> dict[str, str | float]:
        """What is said of it beside the picture."""
        of = self.picture
        return {
            "key": self.key,
            "row": self.row,
            "picture": of.column,
            "attribute": of.attribute,
            "strength": of.strength,
        }


@dataclass(frozen=True)
class Selection:
    """The passing rows of a stage with some of their pictures; ``before`` is what pairs begin with."""

    passing: Passing
    stage: str
    pictures: tuple[Picture, ...]
    before: Picture | None = None

    @property
    def run(self) -> Run:
        """The run that they are of."""
        return self.passing.run

    def items(self, shard: str) -> Iterator[Item]:
        """Yield the pictures of the passing rows of a shard, row by row; what a row lacks is left out."""
        columns = [picture.column for picture in self.pictures]
        for position, row in self._rows(self.stage, shard, columns):
            for picture in self.pictures:
                if cell := row[picture.column]:
                    key = f"{row['key']}/{picture.column}" if len(columns) > 1 else row["key"]
                    yield Item(position, key, row["key"], picture, cell["bytes"], _suffix(cell["path"]))

    def pairs(self, shard: str) -> Iterator[tuple[Item, bytes]]:
        """Yield each picture of the passing rows of a shard with the file of the picture that it began as."""
        if self.before is None:
            raise ValueError("a selection without `before` has no pairs")
        column = self.before.column
        start = self._rows(self.before.stage, shard, [column])
        position, cell = -1, None
        for item in self.items(shard):
            while position < item.position:
                position, row = next(start)
                cell = row[column]
            if cell:
                yield item, cell["bytes"]

    def missing(self, shard: str) -> Iterator[tuple[int, str]]:
        """Yield position and column of each picture that a passing row lacks, without reading pictures."""
        for picture in (*self.pictures, *([self.before] if self.before else [])):
            passed, position = self.passing.of(shard), 0
            with open_shard(self.run.shard(picture.stage, shard)) as file:
                for batch in file.iter_batches(columns=[f"{picture.column}.path"]):
                    lacking = batch.column(0).is_null().to_numpy(zero_copy_only=False)
                    here = np.flatnonzero(lacking & passed[position : position + len(lacking)])
                    yield from ((position + int(i), picture.column) for i in here)
                    position += len(lacking)

    def _rows(self, stage: str, shard: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
        passed, position = self.passing.of(shard), 0
        for rows in read_rows(self.run.shard(stage, shard), ["key", *columns]):
            for row in rows:
                if passed[position]:
                    yield position, row
                position += 1


def choose_pictures(run: Run, stage: str, wanted: Sequence[str] = ()) -> tuple[Picture, ...]:
    """Return the pictures of a stage, or those whose columns are ``wanted``; raises ``DataError`` for others."""
    columns = [column for of, column in picture_columns(run) if of == stage]
    if unknown := [name for name in wanted if name not in columns]:
        told = near_matches(unknown[0], columns) or f": it has {', '.join(columns) or 'none'}"
        raise DataError(f"the stage {stage} of {run.output} has no picture {unknown[0]!r}{told}")
    if not columns:
        raise DataError(f"the stage {stage} of {run.output} has no pictures: choose another with --stage")
    edits = {edit.column: edit for edit in known_edits(run.params.edits)}
    labels = _labels(columns)
    return tuple(
        Picture(stage, column, labels[column], edit.target or label_of(column), edit.strength * edit.move)
        if (edit := edits.get(column))
        else Picture(stage, column, labels[column])
        for column in columns
        if not wanted or column in wanted
    )


def choose_before(run: Run, stage: str, name: str) -> Picture:
    """Return the picture that pairs begin with, by its name on the report; ``DataError`` names those that there are."""
    earlier = run.stages[: run.stages.index(stage)]
    known = {name: place for place, name in name_images(picture_columns(run)).items() if place[0] in earlier}
    if name not in known:
        raise DataError(f"{run.output} has no picture {name!r} before {stage}: it has {', '.join(known) or 'none'}")
    of, column = known[name]
    return Picture(of, column, "before")


def label_of(column: str) -> str:
    """Return what an edit without a target changes: the beginning of its column."""
    return column.rpartition("@")[0] or column


def _labels(columns: Sequence[str]) -> dict[str, str]:
    labels = {column: _NOT_IN_NAMES.sub("_", column)[:LONGEST_NAME] for column in columns}
    if len({label.lower() for label in labels.values()}) < len(labels):
        return {column: f"{place}-{label}" for place, (column, label) in enumerate(labels.items())}
    return labels


def _suffix(path: str | None) -> str:
    suffix = PurePosixPath(path or "").suffix
    return suffix if is_picture(suffix) else ".png"
