"""One stage over one shard: the base class owns counting, rejects, skipping and committing."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from gan_core.meaning import Meaning
from gan_core.params import Params
from gan_core.registry import Registry
from gan_core.rows import Progress, Rejected, Row


def _silent(_rows: int) -> None:
    """Tell nobody how many rows are done."""


class Stage(ABC):
    """What happens to the rows of a shard at one step.

    ``inputs`` names the earlier stages whose columns ``process`` reads (their shards are joined by key). ``fields`` are
    the columns that it adds to ``key, status, reason, stage``. ``version`` is raised by hand whenever the code gives
    other results than before: shards made by the old code are then redone. ``source`` is the URL of the imported
    dataset, needed where ``inputs`` has ``"source"``. ``meanings`` says how pages show float columns that are scores of
    this stage's own, and totals that are named after them. A stage that takes long may call ``finished`` with the
    number of rows that it has just done; those it does not tell of count when their batch is written.
    """

    name: ClassVar[str]
    inputs: tuple[str, ...]
    version: ClassVar[int] = 1
    meanings: ClassVar[Mapping[str, Meaning]] = MappingProxyType({})
    source: str = ""
    fields: Sequence[pa.Field]
    batch_size: int
    finished: Progress = staticmethod(_silent)

    @classmethod
    def build(cls, params: Params, source: str) -> "Stage":
        """Build the stage of a run over ``source``, with its networks.

        Raises ``UserError`` for a checkpoint or parameter that can't be used.
        """
        return cls()

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything beside the input bytes that decides the output (params, checkpoint hashes): JSON-able."""

    @abstractmethod
    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Rows that are ``ok`` so far -> for each, in order, its new columns or a rejection.

        A row that goes on, but not as was asked for, has a ``reason`` beside its columns: a short flag, a colon and a
        sentence. It stays with the row, and receipts count flags.

        Running out of memory makes the caller try again with half of the rows, and an ``ImageError`` with each half: so
        gather statistics last, after all that can fail.
        """

    def statistics(self) -> dict[str, np.ndarray]:
        """Return mergeable statistics of the rows processed since the last call, and start anew."""
        return {}


STAGES: Registry[type[Stage]] = Registry("stage", "gan_core.stages", Stage)
"""Stages by name; another package adds its own by the entry point ``edit_dataset.stage``."""


def build_stage(name: str, params: Params, source: str) -> Stage:
    """Build one stage of a run over ``source``; raises ``UserError`` for what can't be used."""
    return STAGES.get(name).build(params, source)
