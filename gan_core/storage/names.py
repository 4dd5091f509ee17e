"""Names that become parts of paths: checked once, where they are read or first used."""

import re

from gan_core.errors import DataError

_REFUSED = re.compile(r"[/\\\x00-\x1f\x7f\ud800-\udfff]|::")
"""Separators (``::`` chains URLs in fsspec), control characters, and bytes that are no UTF-8."""
LONGEST = 255
"""Bytes of a file's name that Linux file systems take."""
SHARD_END = ".parquet"


def check_name(name: str) -> str:
    """Return ``name`` if it names one visible file or folder in whatever folder it is put.

    Raises ``ValueError`` (which pydantic takes up) for separators, ``..``, hidden names and what no file can be called.
    """
    if not name or name.startswith("."):
        raise ValueError(f"{_shown(name)} can't name a file of a run: it is empty or begins with a dot")
    if _REFUSED.search(name):
        raise ValueError(f"{_shown(name)} can't name a file of a run: it has a separator or a control character")
    if len(name.encode()) > LONGEST:
        raise ValueError(f"{_shown(name)} can't name a file of a run: it is longer than {LONGEST} bytes")
    return name


def check_shard_name(name: str) -> str:
    """Return ``name`` if it is one that a shard can have; raises ``ValueError``."""
    if not name.endswith(SHARD_END):
        raise ValueError(f"{_shown(name)} can't name a shard: it doesn't end in {SHARD_END}")
    return check_name(name)


def check_path(path: str) -> None:
    """Raise ``DataError`` for a local path that no file can have, whatever is there."""
    if "\0" in path or any(len(part.encode(errors="replace")) > LONGEST for part in path.split("/")):
        raise DataError(f"{_shown(path)} can't be a path: a name in it has a null byte or more than {LONGEST} bytes")


def require_name(name: str, where: str) -> str:
    """Do as ``check_name``; raises ``DataError`` that begins with ``where`` the name comes from."""
    try:
        return check_name(name)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def _shown(name: str) -> str:
    shown = ascii(name)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
