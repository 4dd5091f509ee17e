"""Rows of a dataset: cells by column name, the reason for rejecting a row, and a row's random seed."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

Row = dict[str, Any]
"""Cells by column name. ``key``, ``status``, ``reason`` and ``stage`` are text; a stage defines the other columns."""
Progress = Callable[[int], None]
"""Called with the number of rows that were just finished."""


@dataclass(frozen=True)
class Rejected:
    """Why a row was rejected: a short status code such as ``no_face``, and a sentence."""

    status: str
    reason: str


def row_seed(key: str) -> int:
    """Return the seed of a row's random stream: the first 63 bits of the sha256 of its key."""
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big") >> 1


def composed(key: str) -> str:
    """Return ``key`` in the Unicode form NFC; macOS writes names in NFD, where an accent is a character of its own."""
    return key if key.isascii() else unicodedata.normalize("NFC", key)
