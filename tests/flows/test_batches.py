"""Batches handed out: signs of life, lost ones handed out again, failed ones told, and receipts as the result."""

import errno
import logging
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.exceptions import ObjectNotFound
from prefect.logging import disable_run_logger
from prefect.states import Completed, Crashed, Failed, Pending, Running, Scheduled

from flows import batches
from flows.batches import Batch, _follow, _lost, beat_path, beating
from gan_core.errors import DataError, ParamsError
from gan_core.params import Params
from gan_core.recipes.base import plan_run
from gan_core.runs.run import Run
from gan_core.stopping import Stopped, check_stop, forget_stop, request_stop, stop_requested
from gan_core.storage.atomic import FOLDER_LOCK

JOB = Run(Params(), "ds", "out", {"shard-00000.parquet": 3}, {"align": {}})


def batch(**more: Any) -> Batch:
    """A batch of one shard that some child run has."""
    return Batch(["shard-00000.parquet"], uuid4(), **more)


def test_a_child_that_renews_its_file_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = batch(since=0.0)
    path = Path(beat_path("out", str(mine.run_id)))
    with beating(str(path), every=0.01):
        while not path.exists():
            pass
        assert not _lost(JOB, mine, Running(), lambda: 1000.0)
        assert mine.since == 1000.0
    assert not path.exists()
    path.write_text("old")
    assert not _lost(JOB, mine, Running(), lambda: 2000.0)
    assert not _lost(JOB, mine, Running(), lambda: 2000.0 + batches.SILENCE_S)
    assert _lost(JOB, mine, Running(), lambda: 2001.0 + batches.SILENCE_S)


def test_a_store_that_fails_for_a_while_ends_no_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, looked, failing = batches.write_bytes, list[int](), [OSError("away"), DataError("the disk is full")]
    failing[1].__cause__ = OSError(errno.ENOSPC, "full")

    def unreliable(url: str, data: bytes) -> str:
        if failing:
            raise failing.pop()
        return write(url, data)

    def look() -> None:
        looked.append(len(failing))
        if len(looked) == 3:
            raise OSError("away")

    monkeypatch.setattr(batches, "write_bytes", unreliable)
    with beating(str(tmp_path / "beat"), every=0.01, meanwhile=look):
        while len(looked) < 6:
            time.sleep(0.01)
        assert (tmp_path / "beat").exists() and looked[:2] == [1, 0]
    failing.append(OSError("away"))
    monkeypatch.setattr(batches, "remove", lambda url: unreliable(url, b""))
    with beating(str(tmp_path / "beat")):
        pass


def test_a_child_may_wait_for_a_worker_for_ever_but_not_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine, later = batch(), 1e6
    assert not _lost(JOB, mine, Scheduled(), lambda: 0.0)
    assert not _lost(JOB, mine, Scheduled(), lambda: later)
    assert not _lost(JOB, mine, Pending(), lambda: later)
    assert not _lost(JOB, mine, Pending(), lambda: later + batches.CLAIMED_S)
    assert not _lost(JOB, mine, Running(), lambda: later + 2 * batches.CLAIMED_S)
    mine.state = "Pending"
    assert _lost(JOB, mine, Pending(), lambda: later + 4 * batches.CLAIMED_S)


@pytest.mark.parametrize(
    ("state", "kept", "started", "failed"),
    [
        (Pending(), True, 0, 0),
        (Running(), True, 0, 0),
        (Completed(), False, 0, 0),
        (Crashed(message="killed"), True, 1, 0),
        (Failed(message="DataError: spoiled"), False, 0, 1),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_only_lost_batches_are_handed_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Any, kept: bool, started: int, failed: int
) -> None:
    monkeypatch.chdir(tmp_path)
    begun: list[list[str]] = []

    def start(run: Run, shards: list[str]) -> Batch:
        begun.append(shards)
        return batch()

    monkeypatch.setattr(batches, "_start", start)
    answering(monkeypatch, state)
    said: list[str] = []
    with disable_run_logger():
        after = _follow(JOB, batch(), said)
    assert (after is not None, len(begun), len(said)) == (kept, started, failed)
    assert after is None or after.tries == 1 + started


def test_a_silent_child_is_given_up_and_after_three_times_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changed = answering(monkeypatch, Running())
    said: list[str] = []
    with disable_run_logger():
        assert _follow(JOB, batch(since=-1e9, state="Running", tries=batches.TRIES), said) is None
    assert [state.name for state in changed] == ["Crashed"]
    assert said == ["shard-00000.parquet and 0 more: its worker sent no heartbeat while the run was running"]


def answering(monkeypatch: pytest.MonkeyPatch, state: Any) -> list[Any]:
    """Let the server answer with this state; returns the states that it is told."""
    told: list[Any] = []

    class Client:
        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: object) -> None: ...

        def read_flow_run(self, _: object) -> SimpleNamespace:
            return SimpleNamespace(state=state)

        def read_deployment_by_name(self, name: str) -> None: ...

        def set_flow_run_state(self, _: object, state: Any, force: bool = False) -> None:
            told.append(state)

    monkeypatch.setattr(batches, "get_client", lambda **_: Client())
    return told


def test_a_batch_stops_when_somebody_else_holds_its_run(
    project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_run(tiny_dataset, "out", overrides={"tune.enabled": False}).begin()
    monkeypatch.setattr(batches, "BEAT_S", 0.01)

    def work(part: Run) -> None:
        Path("out", FOLDER_LOCK).write_text("process 2 on there since later")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            check_stop()
            time.sleep(0.01)

    monkeypatch.setattr(batches, "run_shards", work)
    monkeypatch.setattr(batches, "beating", partial(beating, every=0.01))
    Path("out", FOLDER_LOCK).write_text("process 1 on here since now")
    with pytest.raises(DataError, match="out is no longer held by the command that handed this batch out"):
        batches.edit_shards.fn("out", ["shard-00000.parquet"])
    assert not stop_requested()


def test_children_are_cancelled_when_their_parent_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "POLL_S", 0.0)
    monkeypatch.setattr(batches, "_start", lambda *_: batch())
    monkeypatch.setattr(batches, "get_run_logger", lambda: logging.getLogger())
    told = answering(monkeypatch, Running())
    request_stop()
    try:
        with pytest.raises(Stopped):
            batches.hand_out(JOB)
    finally:
        forget_stop()
    assert [state.name for state in told] == ["Cancelling"]


def test_a_child_that_was_deleted_is_handed_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Client:
        def __enter__(self) -> Any:
            return SimpleNamespace(read_flow_run=self.read_flow_run)

        def __exit__(self, *_: Any) -> None: ...

        def read_flow_run(self, run_id: Any) -> None:
            raise ObjectNotFound(Exception())

    again = batch()
    monkeypatch.setattr(batches, "get_client", lambda **_: Client())
    monkeypatch.setattr(batches, "_start", lambda *_: again)
    monkeypatch.setattr(batches, "get_run_logger", lambda: logging.getLogger())
    assert _follow(JOB, batch(), []).run_id == again.run_id


def test_a_batch_that_no_worker_takes_waits() -> None:
    long_ago = time.monotonic() - batches.UNTAKEN_S - 1
    assert batch(state="Late", since=long_ago).waits()
    assert not batch(state="Running", since=long_ago).waits() and not batch(state="Late").waits()


@pytest.mark.usefixtures("on_server")
def test_an_unknown_deployment_is_told() -> None:
    for name in ("edit-shards/nowhere", "nowhere"):
        with pytest.raises(ParamsError, match=f"run.deployment: there is no deployment '{name}'"):
            batches._check_deployment(name)
