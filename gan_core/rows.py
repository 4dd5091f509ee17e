"""Rows of a dataset: their columns by name, why one can't go on, and the random seed that follows from its key."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

Row = dict[str, Any]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Rejected:
    """Why a row can't go on: a short status code (``no_face``) and a sentence."""

    status: str
    reason: str


def row_seed(key: str) -> int:
    """Return the seed of a row's random stream: 63 bits of the hash of its key."""
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big") >> 1
