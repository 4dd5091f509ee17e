"""One holder a folder: by a locked file, or in a bucket by a lease that is renewed."""

import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from gan_core.errors import DataError
from gan_core.storage import holding
from gan_core.storage.atomic import FOLDER_LOCK
from gan_core.storage.holding import Lease, hold_folder, holder_of

BUCKET = "memory://held/run"
PATIENCE_S = 60.0


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket in which everything goes a hundred times as fast."""
    monkeypatch.setattr(holding, "BEAT_S", 0.05)
    monkeypatch.setattr(holding, "SETTLE_S", 0.02)
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


def lease_of(fs: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fs.cat_file(f"/held/run/{FOLDER_LOCK}"))
    return found


@pytest.mark.parametrize("place", ["local", BUCKET])
def test_the_second_is_told_who_holds_it_and_since_when(bucket: Any, tmp_path: Path, place: str) -> None:
    folder = str(tmp_path / "run") if place == "local" else place
    with hold_folder(folder):
        said = r"run is being written by process \d+ on \S+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: wait"
        begin = time.monotonic()
        with pytest.raises(DataError, match=said), hold_folder(folder):
            pass
        assert time.monotonic() - begin < 1
        assert holder_of(folder)
    assert holder_of(folder) == ""
    with hold_folder(folder):
        pass


def _hold(folder: str, inside: Any, never: Any) -> None:
    with hold_folder(folder):
        inside.set()
        never.wait(PATIENCE_S)


def test_a_local_folder_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    inside, never = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(str(tmp_path), inside, never))
    first.start()
    assert inside.wait(PATIENCE_S)
    with pytest.raises(DataError, match=f"by process {first.pid} on"), hold_folder(tmp_path):
        pass
    first.kill()
    first.join(PATIENCE_S)
    with hold_folder(tmp_path):
        pass


def write_lease(fs: Any, **said: Any) -> None:
    fs.pipe_file(f"/held/run/{FOLDER_LOCK}", json.dumps({"id": "other", "owner": "process 1 on there"} | said).encode())


def test_a_lease_is_renewed_while_it_is_held(bucket: Any) -> None:
    with hold_folder(BUCKET):
        first = lease_of(bucket)["beat"]
        deadline = time.monotonic() + PATIENCE_S
        while lease_of(bucket)["beat"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("age", [0.0, 50.0, -50.0])
def test_a_lease_of_another_machine_is_believed_for_a_while(bucket: Any, age: float) -> None:
    write_lease(bucket, machine="there", pid=1, started="1", beat=time.time() - age)
    with pytest.raises(DataError, match="is being written by process 1 on there"), hold_folder(BUCKET):
        pass
    assert lease_of(bucket)["id"] == "other"


@pytest.mark.parametrize(
    "said", [{"beat": time.time() - 1000}, {"beat": time.time() + 1e6}, {}, {"beat": "x", "id": 3}]
)
def test_a_lease_that_nobody_renews_is_taken(bucket: Any, said: dict[str, Any]) -> None:
    write_lease(bucket, machine="there", pid=1, started="1", **said)
    with hold_folder(BUCKET):
        assert lease_of(bucket)["id"] != "other"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"beat": NaN}', b'{"beat": ' + b"9" * 400 + b"}"]
)
def test_what_is_no_lease_is_taken_after_two_beats(bucket: Any, data: bytes) -> None:
    bucket.pipe_file(f"/held/run/{FOLDER_LOCK}", data)
    with hold_folder(BUCKET):
        pass
    assert not bucket.exists(f"/held/run/{FOLDER_LOCK}")


def test_an_old_lease_that_is_renewed_by_a_slow_clock_is_believed(bucket: Any) -> None:
    write_lease(bucket, machine="there", beat=1.0)
    ended = threading.Event()

    def renew() -> None:
        for beat in range(2, 1000):
            write_lease(bucket, machine="there", beat=float(beat))
            if ended.wait(0.01):
                return

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(DataError, match="is being written by"), hold_folder(BUCKET):
            pass
    finally:
        ended.set()
        thread.join()


def test_the_lease_of_a_process_of_this_machine_that_is_gone_is_taken_at_once(bucket: Any) -> None:
    own = holding._this_process()
    write_lease(bucket, **own | {"started": "1"}, beat=time.time())
    with hold_folder(BUCKET):
        pass
    write_lease(bucket, **own, beat=time.time())
    with pytest.raises(DataError), hold_folder(BUCKET):
        pass


def test_of_many_who_come_at_once_one_holds(bucket: Any) -> None:
    start, held, refused = threading.Barrier(8), [], []

    def come(number: int) -> None:
        lease = Lease(BUCKET)
        start.wait()
        try:
            lease.take()
            held.append(number)
        except DataError:
            refused.append(number)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1 and len(refused) == 7


def test_a_holder_that_was_taken_over_is_told_and_leaves_the_lease_alone(bucket: Any) -> None:
    lost = threading.Event()
    with hold_folder(BUCKET, lost.set):
        write_lease(bucket, beat=time.time())
        assert lost.wait(PATIENCE_S)
    assert lease_of(bucket)["id"] == "other"


def test_a_store_that_fails_for_a_while_is_waited_for(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def fail(*_: Any) -> None:
        failed.set()
        raise ConnectionResetError("reset")

    lost = threading.Event()
    with hold_folder(BUCKET, lost.set):
        with monkeypatch.context() as patch:
            patch.setattr(Lease, "read", fail)
            assert failed.wait(PATIENCE_S)
        before, deadline = lease_of(bucket)["beat"], time.monotonic() + PATIENCE_S
        while lease_of(bucket)["beat"] == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not lost.is_set()
