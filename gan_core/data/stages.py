"""One stage over one shard: the base class owns counting, rejects, skipping and committing."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

Row = dict[str, Any]


@dataclass(frozen=True)
class Rejected:
    """Why a row can't go on: a short status code (``no_face``) and a sentence."""

    status: str
    reason: str


class Stage(ABC):
    """What happens to the rows of a shard at one step.

    ``inputs`` names the earlier stages whose columns ``process`` reads (their shards are joined by key). ``fields`` are
    the columns that it adds to ``key, status, reason, stage``. ``version`` is raised by hand whenever the code gives
    other results than before: shards made by the old code are then redone. ``source`` is the URL of the imported
    dataset, needed where ``inputs`` has ``"source"``.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    version: ClassVar[int] = 1
    source: str = ""
    fields: Sequence[pa.Field]
    batch_size: int

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything beside the input bytes that decides the output (params, checkpoint hashes): JSON-able."""

    @abstractmethod
    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Rows that are ``ok`` so far -> for each, in order, its new columns or a rejection.

        Running out of memory makes the caller try again with half of the rows, and an ``ImageError`` with each half: so
        gather statistics last, after all that can fail.
        """

    def statistics(self) -> dict[str, np.ndarray]:
        """Return mergeable statistics of the rows processed since the last call, and start anew."""
        return {}
