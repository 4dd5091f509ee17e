"""How processes that lead sessions are ended: a worker's flow runs first, and nothing that they started is left."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks import sessions

ENGINE = """
import signal, sys, time
from pathlib import Path
def stop(*_):
    Path("batch").write_text("kept")
    sys.exit(3)
signal.signal(signal.SIGTERM, stop)
Path("run").touch()
time.sleep(60)
"""
WORKER = """
import subprocess, sys, time
from pathlib import Path
for name in Path("names").read_text().split():
    run = subprocess.Popen([sys.executable, "-c", sys.argv[1], name], start_new_session=True)
    Path("told").write_text(f"exited with {run.wait()}")
    Path("run").unlink()
run = subprocess.Popen(["sleep", "60"])
run.wait()
"""
STUBBORN = """
import signal, subprocess, sys, time
from pathlib import Path
def go_on(*_):
    stage = subprocess.Popen(["sleep", "60"], start_new_session=True)
    Path("stage").write_text(str(stage.pid))
signal.signal(signal.SIGTERM, go_on)
Path("run").touch()
while True:
    time.sleep(60)
"""
ORPHANED = """
import subprocess, time
from tasks import sessions
leader = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 61; true"], start_new_session=True)
while len(sessions._family(leader.pid)) < 3:
    time.sleep(0.01)
begun = time.monotonic()
sessions.end(leader.pid)
print(time.monotonic() - begun)
"""
NEVER_REAPS = f"""
import ctypes, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
subprocess.run([sys.executable, "-c", {ORPHANED!r}], check=True)
"""


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def begin(code: str, *arguments: str, until: str = "run") -> subprocess.Popen[bytes]:
    """Start a program that leads a session, and return it when it has made the file ``until``."""
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], start_new_session=True)
    deadline = time.monotonic() + 60
    while not Path(until).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def begin_worker(*names: str) -> subprocess.Popen[bytes]:
    """Start a worker that has flow runs of these names, one after the other."""
    Path("names").write_text(" ".join(names))
    return begin(WORKER, ENGINE)


@pytest.mark.parametrize("name", sorted(sessions.ENGINES))
def test_a_flow_run_ends_in_peace_and_its_worker_lives_to_tell_it(name: str) -> None:
    worker = begin_worker(name)
    assert len(sessions.flow_runs(worker.pid)) == 1
    assert sessions.end(worker.pid) == 1
    assert Path("batch").read_text() == "kept" and Path("told").read_text() == "exited with 3"
    assert not psutil.pid_exists(worker.pid)


def test_a_flow_run_that_is_taken_up_meanwhile_ends_in_peace_too() -> None:
    worker = begin_worker(*sessions.ENGINES)
    assert sessions.end(worker.pid) == 2
    assert Path("told").read_text() == "exited with 3" and not Path("run").exists()


def test_a_process_that_vanishes_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = begin_worker(*sessions.ENGINES)
    cmdline = psutil.Process.cmdline

    def of_living(process: psutil.Process) -> list[str]:
        if process.pid == worker.pid:
            raise psutil.NoSuchProcess(process.pid)
        return cmdline(process)

    with monkeypatch.context() as vanished:
        vanished.setattr(psutil.Process, "cmdline", of_living)
        assert len(sessions.flow_runs(worker.pid)) == 1
    monkeypatch.setattr(sessions, "REPORT_S", 0.0)
    sessions.end(worker.pid)


def test_what_is_started_while_a_process_is_to_end_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = begin(STUBBORN)
    monkeypatch.setattr(sessions, "STOP_TIMEOUT_S", 2.0)
    sessions.end(stubborn.pid)
    assert not psutil.pid_exists(stubborn.pid)
    stage = int(Path("stage").read_text())
    assert not psutil.pid_exists(stage) or not sessions.is_alive(psutil.Process(stage))


def test_what_has_ended_already_is_no_error() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    ended.wait()
    assert sessions.end(ended.pid) == 0


def test_where_nobody_reaps_orphans_they_have_ended_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", NEVER_REAPS], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 10.0
