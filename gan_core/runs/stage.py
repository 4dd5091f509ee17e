"""The base class of stages: rows in, new columns or rejections out."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import pyarrow as pa

from gan_core.device import Compute, compute_on, computing, on_host
from gan_core.errors import ParamsError, near_matches
from gan_core.meaning import Meaning
from gan_core.params import Params
from gan_core.registry import Registry, place_of
from gan_core.rows import Progress, Rejected, Row
from gan_core.runs.overlap import count_threads
from gan_core.storage.formats import PNG, PictureFormat
from gan_core.storage.keys import Dataset
from gan_core.storage.shards import IMAGE, shard_schema

S = TypeVar("S", bound="Stage")


def _silent(_rows: int) -> None:
    """Ignore the number of finished rows."""


class Stage(ABC):
    """One step of a run: it computes new columns for the rows of a shard.

    It has three hooks, between which nothing else happens to a row: ``load`` and ``store`` work on one row each, on the
    CPU and in other threads, while ``calculate`` works on a batch, on the device. A stage may have ``process`` alone
    instead, which then is its only step.

    ``inputs`` names the earlier stages whose columns are read (their shards are joined by key). ``fields`` are the
    columns that it adds to ``key, status, reason, stage``. ``version`` is raised by hand whenever the code gives other
    results than before: shards made by the old code are then redone. ``source`` is the URL of the imported dataset,
    needed where ``inputs`` has ``"source"``; ``reads`` are the columns of it that must hold pictures, by the parameter
    or stage that asks for them. ``meanings`` says how pages show float columns that are scores of this stage's own, and
    totals that are named after them. A stage that takes long may call ``finished`` with the number of rows that it has
    just done; rows not reported by it are counted when their batch is done. ``compute`` says where the stage was built:
    its networks are there, and ``calculate`` is called in that context. ``pictures`` is the format in which its
    pictures are stored. ``io_threads`` is the number of threads for ``load`` and ``store``; with 0 there are none.
    """

    name: ClassVar[str]
    inputs: tuple[str, ...]
    version: ClassVar[int] = 1
    meanings: ClassVar[Mapping[str, Meaning]] = MappingProxyType({})
    source: str = ""
    reads: Mapping[str, str] = MappingProxyType({})
    fields: Sequence[pa.Field]
    batch_size: int
    finished: Progress = staticmethod(_silent)
    compute: Compute
    pictures: PictureFormat = PNG
    io_threads: int = 0

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a class with ``process`` alone be complete."""
        super().__init_subclass__(**options)
        if "process" in vars(cls) and getattr(cls.calculate, "__isabstractmethod__", False):
            setattr(cls, "calculate", cls.process)  # noqa: B010  (mypy takes no method as the value of another)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        stage = super().__new__(cls)
        stage.compute = computing()
        return stage

    @classmethod
    def build(cls, params: Params, source: str) -> "Stage":
        """Build the stage of a run over ``source``, with its networks.

        Raises ``UserError`` for a checkpoint or parameter that can't be used.
        """
        return cls()

    def check(self, dataset: Dataset) -> None:
        """Raise ``DataError`` for a dataset whose shards lack a column that the stage reads, before a run begins."""
        dataset.check_pictures(self.reads)

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything besides the input bytes that determines the output (params, checkpoint hashes): JSON-able."""

    def load(self, row: Row) -> Row | Rejected:
        """Read of a row what ``calculate`` needs and takes a CPU long, such as its pictures: by default nothing.

        An ``ImageError`` rejects the row.
        """
        return row

    @abstractmethod
    def calculate(self, rows: Sequence[Row]) -> Iterable[Any]:
        """Loaded rows that are ``ok`` so far -> for each, in order, what ``store`` is given, or a rejection.

        What is yielded one by one is stored while the next is calculated.

        After running out of memory the caller tries again with half of the rows that have no result yet, after an
        ``ImageError`` with each half: so update statistics last, after everything that can fail.
        """

    def store(self, row: Row, made: Any) -> Row | Rejected:
        """Return a row's new columns, or a rejection: by default ``made``, in which pictures are encoded.

        Those are arrays ``uint8 [H, W, 3]`` in columns for images. A row that passes although it could not be processed
        as requested has a ``reason`` beside its columns: a short flag, a colon and a sentence. It stays with the row,
        and receipts count flags.
        """
        images = {field.name for field in self.fields if field.type == IMAGE}
        return {
            name: self.pictures.cell(cell, row["key"]) if name in images and isinstance(cell, np.ndarray) else cell
            for name, cell in made.items()
        }

    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Do the three steps one after the other: rows that are ``ok`` so far -> new columns or a rejection each."""
        with on_host():
            loaded = [self.load(row) for row in rows]
        good = [row for row in loaded if not isinstance(row, Rejected)]
        results = list(self.calculate(good)) if good else []
        with on_host():
            pairs = zip(good, results, strict=True)
            stored = iter([one if isinstance(one, Rejected) else self.store(row, one) for row, one in pairs])
        return [row if isinstance(row, Rejected) else next(stored) for row in loaded]

    def statistics(self) -> dict[str, np.ndarray]:
        """Return mergeable statistics of the rows processed since the last call, and reset them."""
        return {}


STAGES: Registry[type[Stage]] = Registry("stage", "gan_core.stages", Stage)
"""Stages by name; another package adds its own by the entry point ``edit_dataset.stage``."""


def build_stage(name: str, params: Params, source: str) -> Stage:
    """Build one stage of a run over ``source``, on ``run.device``; raises ``UserError`` for what can't be used."""
    with compute_on(params.run.device):
        return settle(STAGES.get(name).build(params, source), params)


def settle(stage: S, params: Params) -> S:
    """Give a stage what the parameters say of all stages alike: the format of pictures and the threads; return it."""
    stage.pictures = PictureFormat(params.pictures.format, params.pictures.quality)
    stage.io_threads = count_threads(params.run, stage.compute.kind)
    return stage


def identity_of(stage: Stage) -> dict[str, Any]:
    """Return everything besides the input bytes that determines the output: a stage's identity, and its format.

    It is as ``run.json`` and receipts hold it. Raises ``ParamsError`` for what can't be written as JSON.
    """
    stores = any(field.type == IMAGE for field in stage.fields)
    found = stage.identity() | (stage.pictures.identity() if stores else {})
    if odd := [key for key in found if not isinstance(key, str)]:
        raise stage_fault(stage, f"its identity has the key {odd[0]!r}, which is no text: give texts as keys")
    return {key: _as_json(stage, key, value) for key, value in found.items()}


def check_stage(stage: Stage, earlier: Iterable[str]) -> None:
    """Raise ``ParamsError`` for a stage that is not complete, or that doesn't fit the stages before it in the run."""
    if fault := _fault(stage, ["source", *earlier]):
        raise stage_fault(stage, fault)


def _fault(stage: Stage, earlier: Sequence[str]) -> str:
    if lacking := [name for name in ("inputs", "fields", "batch_size") if not hasattr(stage, name)]:
        return f"it has no {', '.join(lacking)}: give it in the class or in the constructor"
    if not stage.inputs:
        return "its inputs are empty: name what it reads, `source` or stages before it"
    if unknown := [name for name in stage.inputs if name not in earlier]:
        return f"its inputs name {unknown[0]!r}, which is not before it in the run{near_matches(unknown[0], earlier)}"
    if "source" in stage.inputs and not stage.source:
        return "its inputs name the source, whose URL it has not: set its `source` in `build`"
    try:
        shard_schema(stage.fields)
    except (TypeError, ValueError) as error:
        return f"its fields make no shard ({error}): correct them"
    return ""


def _as_json(stage: Stage, key: str, value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        fault = f"its identity has {key!r}, which is not JSON ({error}): give numbers or texts"
        raise stage_fault(stage, fault) from None


def stage_fault(stage: Stage, fault: str) -> ParamsError:
    """Return the error that names a stage, its class, and what is wrong with its code."""
    return ParamsError(f"stage {stage.name!r} ({place_of(type(stage))}): {fault}")
