"""Atomic writes, and a lock that lets one process at a time write a local file.

A local file is written under a temporary name in the same folder, synced and renamed, and the folder is synced. For
other file systems the file is written to the local disk and uploaded in one piece, so a failure uploads nothing.

If two processes write one local shard, the second finds the ``flock`` of the first and stops with a ``DataError``. The
kernel releases the lock when its owner dies, so a lock is never stale; temporary files are locked in the same way while
they are written. Object stores have no such lock: the last commit wins, and readers reject a shard whose receipt does
not match its data.
"""

import errno
import fcntl
import hashlib
import os
import re
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fsspec.spec import AbstractFileSystem

from gan_core.errors import DataError, HeldError
from gan_core.storage.urls import CHUNK, base_name, is_local, open_fs

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space and run again",
    errno.EDQUOT: "the disk quota is used up: free some space and run again",
    errno.EFBIG: "the file would be larger than is allowed here: raise the limit or make smaller shards",
    errno.EROFS: "the file system is read-only: choose another output folder",
    errno.EACCES: "permission denied: choose another output folder or change its owner",
    errno.EPERM: "permission denied: choose another output folder or change its owner",
    errno.ENOTDIR: "a part of its path is a file: choose another output folder",
    errno.EEXIST: "a file is where a folder should be: choose another output folder",
    errno.EISDIR: "a folder is where the file should be: move it away",
    errno.ENAMETOOLONG: "its name is too long: choose a shorter one",
    errno.ELOOP: "a link is where a file should be: remove the link",
}
FOLDER_LOCK = ".run.lock"
"""The lock of a whole folder, see ``gan_core.storage.holding``."""
_TEMPORARY = re.compile(r"\.(.*)\.\d+-[0-9a-f]+\.tmp", re.DOTALL)


class HashingFile:
    """A write-only binary file that computes the sha256 of what is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0
        self._discarded = False
        self.closed = False

    @property
    def sha256(self) -> str:
        """The digest of everything written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write bytes, or any other object with the buffer protocol; return how many bytes it has."""
        view = memoryview(data)
        if self._discarded:
            return view.nbytes
        self._file.write(view)
        self._digest.update(view)
        self._size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._size

    def flush(self) -> None:
        """Hand everything to the operating system."""
        if not self._discarded:
            self._file.flush()

    def discard(self) -> None:
        """Ignore all further writes, because a writer on top of this file may still flush after a failure."""
        self._discarded = True

    def close(self) -> None:
        """Do nothing: the code that opened the file commits it."""

    def readable(self) -> bool:
        """No."""
        return False

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """No."""
        return False


@contextmanager
def atomic_write(url: str | Path) -> Iterator[HashingFile]:
    """Open ``url`` for writing. The file appears when the block ends, and does not appear if the block raises.

    Raises ``DataError`` if the disk is full or the location can't be written to. Other I/O errors pass through.
    """
    fs, path = open_fs(url)
    with explain_os_errors(url):
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        with _local_commit(path) if is_local(url) else _remote_commit(fs, path) as file:
            yield file


def write_bytes(url: str | Path, data: bytes) -> str:
    """Write a small file atomically and return its sha256; raises ``DataError`` as ``atomic_write`` does."""
    with atomic_write(url) as file:
        file.write(data)
    return file.sha256


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copy a file, so that ``target`` is there as a whole or not at all; raises as ``atomic_write`` does."""
    fs, path = open_fs(source)
    with fs.open(path, "rb") as file, atomic_write(target) as copy:
        while chunk := file.read(CHUNK):
            copy.write(chunk)


def remove(url: str | Path) -> None:
    """Delete a file if it exists."""
    fs, path = open_fs(url)
    with suppress(FileNotFoundError):
        fs.rm_file(path)


def sweep_temporary(url: str | Path) -> None:
    """Delete temporary files of killed writers of ``url`` and its side files."""
    if is_local(url):
        path = Path(open_fs(url)[1])
        sweep_folder(path.parent, path.name)


def sweep_folder(folder: str | Path, prefix: str = "") -> None:
    """Delete temporary files that killed writers have left in a folder, of files whose names begin with ``prefix``."""
    if not is_local(folder) or not (path := Path(open_fs(folder)[1])).is_dir():
        return
    for left in path.iterdir():
        written = _TEMPORARY.fullmatch(left.name)
        if written and written[1].startswith(prefix) and left.is_file() and not _is_being_written(left):
            left.unlink(missing_ok=True)


def is_leftover(name: str, prefix: str = "") -> bool:
    """Tell whether a file of this name is one that a killed writer leaves: a temporary file, or a lock of a folder.

    With ``prefix`` only temporary files are that of files whose names begin with it.
    """
    written = _TEMPORARY.fullmatch(name)
    return name == FOLDER_LOCK or (written is not None and written[1].startswith(prefix))


def _is_being_written(temporary: Path) -> bool:
    try:
        with temporary.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # its writer lives, or nobody can tell here
        return True
    return False


@contextmanager
def exclusive(url: str | Path) -> Iterator[None]:
    """Lock ``url`` for writing on this machine; raises ``HeldError`` if another process holds the lock."""
    if not is_local(url):
        yield
        return
    path = Path(open_fs(url)[1])
    with locked(path.with_name(f".{path.name}.lock"), url):
        yield


@contextmanager
def locked(lock: Path, url: str | Path) -> Iterator[None]:
    """Hold the file ``lock``, which stands for ``url``; raises ``HeldError`` that names its owner if it has one."""
    with explain_os_errors(lock if lock.is_symlink() else url):
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = _take_lock(lock, url)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def describe_process() -> str:
    """Say which process this is and what time it is: the owner of a lock, and since when."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} on {socket.gethostname()} since {now}"


@contextmanager
def explain_os_errors(url: str | Path) -> Iterator[None]:
    """Raise errors of a full, read-only or forbidden location as a ``DataError`` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        raise DataError(f"can't write {url}: {_ADVICE[error.errno]}") from error


@contextmanager
def _local_commit(path: str) -> Iterator[HashingFile]:
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "xb") as raw, _discarding(HashingFile(raw)) as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


@contextmanager
def _remote_commit(fs: AbstractFileSystem, path: str) -> Iterator[HashingFile]:
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder, base_name(path))
        with open(staged, "xb") as raw, _discarding(HashingFile(raw)) as file:
            yield file
        fs.put_file(str(staged), path)
        fs.invalidate_cache()


@contextmanager
def _discarding(file: HashingFile) -> Iterator[HashingFile]:
    try:
        yield file
    except BaseException:
        file.discard()
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _take_lock(lock: Path, url: str | Path) -> int:
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)  # a link may lead to others' files
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(handle)
            raise HeldError(
                f"{url} is being written by {owner}: wait for that run to end or use another folder"
            ) from None
        if _is_still_there(lock, handle):
            os.ftruncate(handle, 0)
            os.pwrite(handle, describe_process().encode(), 0)
            return handle
        os.close(handle)


def _is_still_there(lock: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(lock), os.fstat(handle))
    except FileNotFoundError:
        return False
