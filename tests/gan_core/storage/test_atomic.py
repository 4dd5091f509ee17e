import errno
import hashlib
import multiprocessing
import os
from pathlib import Path

import fsspec
import pytest

from gan_core.errors import DataError
from gan_core.storage import atomic
from gan_core.storage.atomic import (
    FOLDER_LOCK,
    atomic_write,
    copy_file,
    exclusive,
    remove,
    sweep_temporary,
    write_bytes,
)
from gan_core.storage.holding import hold_folder
from gan_core.storage.urls import base_name, exists, hash_file, is_local, join_url, read_bytes


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "new" / "folder")
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/folder"


def test_a_written_file_is_whole_and_hashed(folder: str) -> None:
    url = join_url(folder, "a.bin")
    assert write_bytes(url, b"one") == hashlib.sha256(b"one").hexdigest() == hash_file(url)
    write_bytes(url, b"two!")
    assert read_bytes(url) == b"two!"
    assert hash_file(url) == hashlib.sha256(b"two!").hexdigest()
    remove(url)
    remove(url)
    assert not exists(url)


def test_an_exception_leaves_the_old_file_and_no_other(folder: str) -> None:
    url = join_url(folder, "a.bin")
    write_bytes(url, b"old")
    with pytest.raises(RuntimeError, match="stop"), atomic_write(url) as file:
        file.write(b"half of the n")
        raise RuntimeError("stop")
    fs, path = fsspec.url_to_fs(folder)
    assert [base_name(p) for p in fs.ls(path, detail=False)] == ["a.bin"]
    assert read_bytes(url) == b"old"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path: Path, code: int) -> None:
    with pytest.raises(DataError) as caught, atomic_write(tmp_path / "a") as file:
        file.write(b"some")
        raise OSError(code, os.strerror(code))
    assert str(tmp_path / "a") in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_other_io_errors_pass_through_for_a_retry(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="wire"), atomic_write(tmp_path / "a"):
        raise OSError(errno.EIO, "wire")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("I am a file")
    with pytest.raises(DataError, match=r"can't write .*out/a"):
        write_bytes(tmp_path / "out" / "a", b"x")
    with pytest.raises(DataError, match=r"can't write .*out/a"), exclusive(tmp_path / "out" / "a"):
        pass


def test_replacing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    cached = tmp_path / "cache"
    cached.write_bytes(b"kept")
    (tmp_path / "linked").symlink_to(cached)
    write_bytes(tmp_path / "linked", b"new")
    assert cached.read_bytes() == b"kept" and (tmp_path / "linked").read_bytes() == b"new"


def test_sweep_deletes_only_what_writers_of_that_file_left(tmp_path: Path) -> None:
    mine = [".shard.parquet.12-ab.tmp", ".shard.parquet.receipt.json.9-cd.tmp"]
    others = [".shard2.parquet.12-ab.tmp", "shard.parquet", "notes.tmp", ".shard.parquet.lock"]
    for name in mine + others:
        (tmp_path / name).touch()
    sweep_temporary(tmp_path / "shard.parquet")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)


def test_the_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    url = tmp_path / "shard.parquet"
    with (
        exclusive(url),
        pytest.raises(DataError, match=f"is being written by process {os.getpid()} on"),
        exclusive(url),
    ):
        pass
    with exclusive(url), exclusive(tmp_path / "other.parquet"):
        pass
    assert list(tmp_path.iterdir()) == []


def _take_and_die(path: Path) -> None:
    with exclusive(path):
        os._exit(9)


def test_the_lock_of_a_dead_process_does_not_hold(tmp_path: Path) -> None:
    victim = multiprocessing.get_context("fork").Process(target=_take_and_die, args=(tmp_path / "shard.parquet",))
    victim.start()
    victim.join()
    assert (tmp_path / ".shard.parquet.lock").exists()
    with exclusive(tmp_path / "shard.parquet"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    """A run's folder out of a foreign archive may hold such a link, and a lock is written over."""
    letter = tmp_path / "letter.txt"
    letter.write_text("dear")
    (tmp_path / ".shard.parquet.lock").symlink_to(letter)
    (tmp_path / FOLDER_LOCK).symlink_to(letter)
    with pytest.raises(DataError, match="should be: remove the link"), exclusive(tmp_path / "shard.parquet"):
        pass
    with pytest.raises(DataError, match=r"/\.run\.lock: a link is where a file"), hold_folder(tmp_path):
        pass
    assert letter.read_text() == "dear"


def test_urls(tmp_path: Path) -> None:
    assert join_url("memory://", "a", "b") == "memory://a/b"
    assert join_url("/data/", "a") == join_url(Path("/data"), "a") == "/data/a"
    assert base_name("memory://x/y.parquet/") == "y.parquet"
    assert is_local(tmp_path) and is_local(f"file://{tmp_path}") and not is_local("memory://x")


def test_hash_sees_a_change_of_the_same_length(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"aaaa")
    first = hash_file(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"aaab")
    assert hash_file(tmp_path / "a") != first


def test_a_copy_is_whole_or_not_there(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = join_url(folder, "a.bin"), join_url(folder, "more", "b.bin")
    write_bytes(first, bytes(range(256)) * 9)
    monkeypatch.setattr(atomic, "CHUNK", 100)
    copy_file(first, second)
    assert read_bytes(second) == read_bytes(first)
    written = list[bytes]()

    def interrupted(file: atomic.HashingFile, data: bytes) -> int:
        written.append(data)
        if len(written) == 3:
            raise KeyboardInterrupt
        return len(data)

    monkeypatch.setattr(atomic.HashingFile, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        copy_file(first, join_url(folder, "c.bin"))
    assert not exists(join_url(folder, "c.bin"))
