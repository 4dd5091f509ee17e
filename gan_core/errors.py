"""Error classes for mistakes that a user can fix. Each message says what was wrong, where, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches

from gan_core.rows import composed

COMPARED = 1000
"""Names that are compared letter by letter: more would take seconds."""
MAX_LETTERS = 500
"""Of longer messages the beginning and the end are told: what they quote may come from a hostile file."""


class UserError(Exception):
    """A mistake in the input, with a message of one line. The command line exits with code 2 on it.

    ``ParamsError``, ``DataError``, ``CheckpointError`` and ``ImageError`` are kinds of it: what takes it takes them.
    ``Stopped`` is none, and no ``Exception``: like ``KeyboardInterrupt`` it ends work that was asked to stop.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class ParamsError(UserError):
    """A parameter that is unknown or has a bad value."""


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or made for something else."""


class DataError(UserError):
    """A dataset, shard or folder that can't be used as asked."""


class HeldError(DataError):
    """A file that another process is writing."""


def one_line(text: str, most: int = MAX_LETTERS) -> str:
    """Return ``text`` as one line of printable letters, at most so many: the middle of a longer one is left out."""
    if len(text) > most:
        head = most * 2 // 3
        text = f"{text[:head]} … {text[len(text) - (most - head - 3) :]}"
    return "".join(letter if letter.isprintable() else " " for letter in text)


def near_matches(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'a' or 'b'?"`` for names close to ``name``, or all known names if none is close.

    A name that only looks the same, because its Unicode form (NFC, NFD) is another, is said.
    """
    known = list(dict.fromkeys(known))
    if alike := next((other for other in known if composed(other) == composed(name)), ""):
        return f"; it is there in another Unicode form (NFC, NFD): write {alike!a}"
    known = sorted(known[:COMPARED])
    close = get_close_matches(name[:MAX_LETTERS], known, n=3, cutoff=0.5)  # looser than difflib's default of 0.6
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "; known: " + ", ".join(known) if known else ""
