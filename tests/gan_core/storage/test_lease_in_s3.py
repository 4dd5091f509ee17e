"""Leases in a bucket behind the real client: of processes that come at once one holds, and an old lease is taken."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gan_core.errors import DataError
from gan_core.storage import holding
from gan_core.storage.atomic import FOLDER_LOCK
from gan_core.storage.holding import hold_folder
from gan_core.storage.urls import open_fs

ROOT = Path(__file__).parents[3]
FOLDER = "s3://held/run"
COME = """
import sys, time
from gan_core.errors import DataError
from gan_core.storage.holding import hold_folder
from gan_core.storage.urls import exists
exists(sys.argv[1])
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
try:
    with hold_folder(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.readline()
except DataError as error:
    print("refused", error, flush=True)
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("s3fs", reason="the client of buckets is an extra: pip install -e '.[s3]' -c constraints.txt")
    server = pytest.importorskip("moto.server", reason="moto is no dependency: pip install 'moto[server]'")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("PYTHONPATH", str(ROOT)),
    ):
        monkeypatch.setenv(name, value)
    fs, _ = open_fs(FOLDER)
    fs.makedirs("held", exist_ok=True)
    yield fs
    type(fs).clear_instance_cache()
    running.stop()


def come(count: int) -> list[subprocess.Popen[str]]:
    """Start processes that want to hold the folder at the same moment."""
    moment = str(time.time() + 2 + 2 * count)
    command = [sys.executable, "-c", COME, FOLDER, moment]
    return [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)]


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=60)


@pytest.mark.parametrize("stale", [False, True])
def test_of_processes_that_come_at_once_one_holds(bucket: Any, stale: bool) -> None:
    if stale:
        old = {"id": "old", "owner": "process 1 on there", "machine": "there", "beat": time.time() - 1000}
        bucket.pipe_file(f"held/run/{FOLDER_LOCK}", json.dumps(old).encode())
    processes = come(4)
    try:
        told = [process.stdout.readline().split() for process in processes if process.stdout]
        assert sorted(words[0] for words in told) == ["held", "refused", "refused", "refused"]
        holder = next(p.pid for p, words in zip(processes, told, strict=True) if words[0] == "held")
        with pytest.raises(DataError, match=f"is being written by process {holder} on"), hold_folder(FOLDER):
            pass
    finally:
        for process in processes:
            end(process)
    with hold_folder(FOLDER):
        assert bucket.exists(f"held/run/{FOLDER_LOCK}")
    bucket.invalidate_cache()
    assert not bucket.exists(f"held/run/{FOLDER_LOCK}")


def test_a_lease_is_renewed_and_that_of_a_killed_process_is_taken(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = come(1)
    assert first.stdout and first.stdout.readline() == "held\n"
    lease = f"held/run/{FOLDER_LOCK}"
    begun = json.loads(bucket.cat_file(lease))
    time.sleep(holding.BEAT_S + 3)
    assert json.loads(bucket.cat_file(lease))["beat"] > begun["beat"]
    first.kill()
    first.wait()
    with hold_folder(FOLDER):
        assert json.loads(bucket.cat_file(lease))["id"] != begun["id"]


def test_a_lease_that_came_after_the_look_is_not_overwritten(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold_folder(FOLDER):
        mine = json.loads(bucket.cat_file(f"held/run/{FOLDER_LOCK}"))["id"]
        late = holding.Lease(FOLDER)
        looks = iter([None])
        monkeypatch.setattr(late, "read", lambda: next(looks, {"owner": "the first"}))
        with pytest.raises(DataError, match="is being written by the first"):
            late.take()
        assert json.loads(bucket.cat_file(f"held/run/{FOLDER_LOCK}"))["id"] == mine
