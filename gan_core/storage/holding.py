"""One holder a folder: the command that makes a run holds it, and all workers of that run belong to it.

A local folder is held by a locked file, which the kernel frees when its owner dies. A bucket has no such thing: there
the holder renews a small object, its *lease*, every few seconds, and one that is not renewed any more can be taken.

A lease is created only where there is none (S3's ``If-None-Match``), so that of several who come at once one holds.
Stores without such a condition overwrite; and no client has one for taking an old lease over. There the last writer
holds: the others see it after ``SETTLE_S``, or if it came later than that, at their next beat, and stop.
"""

import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from fsspec.spec import AbstractFileSystem

from gan_core.background import in_background
from gan_core.errors import DataError
from gan_core.storage.atomic import FOLDER_LOCK, describe_process, locked
from gan_core.storage.urls import is_local, is_store_error, join_url, open_fs

BEAT_S = 5.0
SILENCE_S = 60.0
"""A lease that is so old is looked at for two beats, and taken if it isn't renewed meanwhile."""
SETTLE_S = 0.5
"""Two who write a lease at the same moment look after this time whose it is; writing a small object takes less."""


class Lease:
    """The object that says who holds a folder of a bucket; ``id`` tells holders apart."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder
        self.fs: AbstractFileSystem
        self.fs, self.path = open_fs(join_url(folder, FOLDER_LOCK))
        self.id = uuid.uuid4().hex
        self.owner = describe_process()

    def take(self) -> None:
        """Become the holder; raises ``DataError`` that says who is, and since when."""
        found = self.read()
        if found is not None and not self._is_over(found):
            raise self._refusal(found)
        if found is not None:
            with suppress(FileNotFoundError):
                self.fs.rm_file(self.path)
        self._create()
        time.sleep(SETTLE_S)
        found = self.read() or {}
        if found.get("id") != self.id:
            raise self._refusal(found)

    def read(self) -> dict[str, Any] | None:
        """Return what the lease says, None if nobody holds it; what is no lease has no ``id``."""
        self.fs.invalidate_cache()
        try:
            found = json.loads(self.fs.cat_file(self.path))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def renew(self) -> None:
        """Write the lease anew."""
        self.fs.pipe_file(self.path, self._content())

    def _create(self) -> None:
        """Write the lease unless there is one, be it this one: the answer to a first try may have been lost."""
        try:
            self.fs.pipe_file(self.path, self._content(), mode="create")
        except OSError as error:
            if isinstance(error, FileExistsError) or error.errno == errno.EINVAL:  # s3fs of stores that don't say why
                return
            self.renew()  # a store that knows no such condition

    def _content(self) -> bytes:
        said = {"id": self.id, "owner": self.owner, "beat": time.time(), **_this_process()}
        return json.dumps(said).encode()

    def release(self) -> None:
        """Give the folder free, if it is still this holder's."""
        found = self.read()
        if found is not None and found.get("id") == self.id:
            self.fs.rm_file(self.path)

    def _is_over(self, found: dict[str, Any]) -> bool:
        if _is_dead(found):
            return True
        beat = found.get("beat")
        if isinstance(beat, float) and abs(time.time() - beat) < SILENCE_S:
            return False
        time.sleep(2 * BEAT_S)
        return self.read() in (found, None)

    def _refusal(self, found: dict[str, Any]) -> DataError:
        owner = str(found.get("owner") or "another process")[:200]
        return DataError(f"{self.folder} is being written by {owner}: wait for that run to end or use another folder")


@contextmanager
def hold_folder(folder: str | Path, lost: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Be the only holder of ``folder`` on any machine while the block runs.

    Raises ``DataError`` if somebody else is, who that is and since when. ``lost`` is called if a bucket's lease was
    taken by another holder, which happens only where this one could not renew it for ``SILENCE_S``.
    """
    if is_local(folder):
        with locked(Path(open_fs(folder)[1], FOLDER_LOCK), folder):
            yield
        return
    lease = Lease(folder)
    lease.take()
    try:
        with in_background(partial(_beat, lease, lost), f"hold {folder}"):
            yield
    finally:
        with tolerant():
            lease.release()


def holder_of(folder: str | Path) -> str:
    """Return what tells a folder's holder from others, empty if nobody has held it; a dead one is still told of."""
    if is_local(folder):
        lock = Path(open_fs(folder)[1], FOLDER_LOCK)
        with suppress(FileNotFoundError):
            return lock.read_text(errors="replace")
        return ""
    return str((Lease(folder).read() or {}).get("id", ""))


def _beat(lease: Lease, lost: Callable[[], object], ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        with tolerant():
            found = lease.read()
            if found is not None and found.get("id") != lease.id:
                lost()
                return
            lease.renew()


@contextmanager
def tolerant() -> Iterator[None]:
    """Go on where the store or the disk fails for a while: what is renewed in it lasts longer than one beat."""
    try:
        yield
    except Exception as error:
        if not any(isinstance(each, OSError) or is_store_error(each) for each in (error, error.__cause__)):
            raise


def _this_process() -> dict[str, Any]:
    """What finds this process again on the same machine: the boot, the table of processes, number and start."""
    return {"machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def _is_dead(found: dict[str, Any]) -> bool:
    """Whether a lease was written on this machine by a process that is gone; of other machines nobody can tell."""
    pid, machine = found.get("pid"), _machine()
    if not machine or found.get("machine") != machine or not isinstance(pid, int):
        return False
    return _started(pid) != found.get("started")


def _machine() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    return ""


def _started(pid: int) -> str:
    """When a process was started, in ticks since the boot; empty if there is none, or one that has ended (Z)."""
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else fields[18]
    return ""
