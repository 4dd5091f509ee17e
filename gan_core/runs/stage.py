"""The base class of stages: rows in, new columns or rejections out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from gan_core.device import Compute, compute_on, computing
from gan_core.meaning import Meaning
from gan_core.params import Params
from gan_core.registry import Registry
from gan_core.rows import Progress, Rejected, Row


def _silent(_rows: int) -> None:
    """Ignore the number of finished rows."""


class Stage(ABC):
    """One step of a run: it computes new columns for the rows of a shard.

    ``inputs`` names the earlier stages whose columns ``process`` reads (their shards are joined by key). ``fields`` are
    the columns that it adds to ``key, status, reason, stage``. ``version`` is raised by hand whenever the code gives
    other results than before: shards made by the old code are then redone. ``source`` is the URL of the imported
    dataset, needed where ``inputs`` has ``"source"``. ``meanings`` says how pages show float columns that are scores of
    this stage's own, and totals that are named after them. A stage that takes long may call ``finished`` with the
    number of rows that it has just done; rows not reported by it are counted when their batch is written. ``compute``
    says where the stage was built: its networks are there, and ``process`` is called in that context.
    """

    name: ClassVar[str]
    inputs: tuple[str, ...]
    version: ClassVar[int] = 1
    meanings: ClassVar[Mapping[str, Meaning]] = MappingProxyType({})
    source: str = ""
    fields: Sequence[pa.Field]
    batch_size: int
    finished: Progress = staticmethod(_silent)
    compute: Compute

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

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything besides the input bytes that determines the output (params, checkpoint hashes): JSON-able."""

    @abstractmethod
    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Rows that are ``ok`` so far -> for each, in order, its new columns or a rejection.

        A row that passes although it could not be processed as requested has a ``reason`` beside its columns: a short
        flag, a colon and a sentence. It stays with the row, and receipts count flags.

        After running out of memory the caller tries again with half of the rows, after an ``ImageError`` with each
        half: so update statistics last, after everything that can fail.
        """

    def statistics(self) -> dict[str, np.ndarray]:
        """Return mergeable statistics of the rows processed since the last call, and reset them."""
        return {}


STAGES: Registry[type[Stage]] = Registry("stage", "gan_core.stages", Stage)
"""Stages by name; another package adds its own by the entry point ``edit_dataset.stage``."""


def build_stage(name: str, params: Params, source: str) -> Stage:
    """Build one stage of a run over ``source``, on ``run.device``; raises ``UserError`` for what can't be used."""
    with compute_on(params.run.device):
        return STAGES.get(name).build(params, source)
