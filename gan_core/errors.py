"""Error classes for mistakes that a user can fix. Each message says what was wrong, where, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in the input, with a message of one line. The command line exits with code 2 on it."""


class ParamsError(UserError):
    """A parameter that is unknown or has a bad value."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or made for something else."""


class DataError(UserError):
    """A dataset, shard or folder that can't be used as asked."""


def near_matches(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'a' or 'b'?"`` for names close to ``name``, or all known names if none is close."""
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)  # looser than difflib's default of 0.6
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "; known: " + ", ".join(known) if known else ""
