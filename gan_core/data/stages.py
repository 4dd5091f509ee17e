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

    ``inputs`` names the earlier stages whose columns ``process`` reads (their shards are joined by key). ``fields`` are the
    columns that it adds to ``key, status, reason, stage``.
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    fields: Sequence[pa.Field]
    batch_size: int

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Everything beside the input bytes that decides the output (params, checkpoint hashes): JSON-able."""

    @abstractmethod
    def process(self, rows: Sequence[Row]) -> list[Row | Rejected]:
        """Rows that are ``ok`` so far -> for each, in order, its new columns or a rejection."""

    def statistics(self) -> dict[str, np.ndarray]:
        """Return mergeable statistics of the rows processed since the last call, and start anew."""
        return {}
