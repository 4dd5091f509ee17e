"""What a person says of rows: accepted or rejected, with a note, in ``marks.json`` beside the run's own files."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from gan_core.errors import DataError, HeldError
from gan_core.storage.atomic import exclusive, write_bytes
from gan_core.storage.urls import join_url, read_bytes

MARKS = "marks.json"
UNMARKED = "unmarked"
REJECTED = "rejected"
LONGEST_NOTE = 2000
PATIENCE_S = 3.0
"""How long another process is waited for, which holds the marks for milliseconds."""


class Mark(BaseModel):
    """What is said of a row; a note has at most ``LONGEST_NOTE`` characters, and ``?`` for halves of characters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mark: Literal["accepted", "rejected", "unmarked"] = "unmarked"
    note: Annotated[str, Field(max_length=LONGEST_NOTE)] = ""

    @field_validator("note", mode="before")
    @classmethod
    def _only_whole_characters(cls, note: object) -> object:
        return note.encode(errors="replace").decode() if isinstance(note, str) else note


_MARKS = TypeAdapter(dict[str, Mark])
_ONE_AT_A_TIME = threading.Lock()


def read_marks(output: str) -> dict[str, Mark]:
    """Return the marks of a run by key; raises ``DataError`` for a damaged file."""
    url = join_url(output, MARKS)
    try:
        return _MARKS.validate_json(read_bytes(url))
    except FileNotFoundError:
        return {}
    except (ValidationError, IsADirectoryError):
        raise DataError(f"{url} holds no marks by key: mend it, or move it away") from None


def set_mark(output: str, key: str, mark: Mark) -> dict[str, Mark]:
    """Say something of a row, or take it back with an empty mark; return all marks.

    Threads and processes may call it at once. Raises ``DataError`` where another process goes on holding the marks.
    """
    with _ONE_AT_A_TIME, _alone(join_url(output, MARKS)):
        marks = read_marks(output) | {key: mark}
        marks = {name: said for name, said in sorted(marks.items()) if said != Mark()}
        content = {name: said.model_dump() for name, said in marks.items()}
        write_bytes(join_url(output, MARKS), (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return marks


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """Hold ``url`` for writing on this machine, after another process has done so."""
    until = time.monotonic() + PATIENCE_S
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(exclusive(url))
                break
            except HeldError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)
        yield
