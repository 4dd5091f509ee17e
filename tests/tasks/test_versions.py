"""Versions of code and data: the commit, and DVC's hashes of what it tracks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from dvc.repo import Repo

from gan_core.errors import UserError
from tasks import versions
from tasks.sessions import is_alive
from tasks.versions import DvcBusyError, dvc_hashes, git_sha, keep_output, reproduce, track


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git and DVC project that tracks the folder ``data``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/shard.parquet").write_text("one")
    with Repo.init() as repo:
        repo.add("data")
    for command in (["add", "."], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "start"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_a_tracked_dataset_has_the_hash_that_dvc_gave_it(repository: Path) -> None:
    recorded = (repository / "data.dvc").read_text()
    hashes = dvc_hashes({"dataset": "data", "inside": "data/shard.parquet", "nowhere": "other"})
    assert hashes["dataset"].endswith(".dir") and hashes["dataset"] in recorded
    assert hashes == {"dataset": hashes["dataset"], "inside": hashes["dataset"]}


def test_a_changed_dataset_is_not_passed_off_as_the_recorded_one(repository: Path) -> None:
    shard = repository / "data/shard.parquet"
    shard.unlink()
    shard.write_text("another")
    assert dvc_hashes({"dataset": "data"})["dataset"].endswith(".dir-modified")


def test_a_commit_says_whether_files_differ_from_it(repository: Path) -> None:
    clean = git_sha()
    assert clean is not None and len(clean) == 40
    (repository / "data.dvc").write_text("changed")
    assert git_sha() == f"{clean}-modified"


def test_a_file_is_tracked_from_then_on(repository: Path) -> None:
    (repository / "weights").write_text("w")
    assert dvc_hashes({"weights": "weights"}) == {}
    assert track(["weights", "nowhere"]) == ["weights"]
    assert (repository / "weights.dvc").exists() and dvc_hashes({"weights": "weights"}) != {}


def test_what_keeps_a_published_folder_is_said_with_where_its_bytes_go(repository: Path) -> None:
    git_add = "keep it: git add data.dvc .gitignore && git commit"
    alone, nobody = keep_output("data", pushed=False)
    assert alone == git_add and "DVC has no remote here" in nobody
    with Repo() as repo, repo.config.edit() as config:
        config["remote"], config["core"] = {"near": {"url": ".store"}}, {"remote": "near"}
    said, committed = keep_output("data", pushed=False)
    assert said == f"{git_add} && dvc push data"
    assert committed == "the DVC remote 'near' is the folder .store of this repository: commit that as well"
    assert keep_output("data", pushed=True)[0] == git_add
    with Repo() as repo, repo.config.edit() as config:
        config["remote"]["near"]["url"] = "s3://bucket/store"
    assert keep_output("data", pushed=True) == [git_add]


def test_without_git_nothing_is_said_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    named, nobody = keep_output("data", pushed=False)
    assert keep_output("data/", pushed=False)[0] == named
    assert named == "data.dvc names this version: keep a copy, as there is no git here"
    assert "DVC has no remote here" in nobody
    with Repo() as repo, repo.config.edit() as config:
        config["remote"], config["core"] = {"near": {"url": "s3://bucket/store"}}, {"remote": "near", "no_scm": True}
    assert keep_output("data", pushed=False)[0] == "keep it: dvc push data"


def test_a_stage_is_made_once_and_its_failure_is_told_in_one_line(repository: Path) -> None:
    stages = {"good": {"cmd": "echo made > good", "outs": ["good"]}, "bad": {"cmd": "exit 3"}}
    (repository / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    told: list[str] = []
    reproduce("good", told.append)
    assert (repository / "good").read_text() == "made\n" and (repository / "dvc.lock").exists()
    assert any("Running stage 'good'" in line for line in told)
    with pytest.raises(UserError, match="bad failed: ERROR: failed to reproduce 'bad'") as e:
        reproduce("bad", told.append)
    assert not isinstance(e.value, DvcBusyError)


def begun(repository: Path) -> psutil.Process:
    """Return what the stage ``long`` has started, when it is there."""
    until = time.monotonic() + 60
    while not (repository / "pid").exists() or not (repository / "pid").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    return psutil.Process(int((repository / "pid").read_text()))


@pytest.fixture
def long(repository: Path) -> Path:
    """A project whose stage ``long`` writes the number of what it has started, and waits for it."""
    stages = {"long": {"cmd": "sleep 61 & echo $! > pid; wait"}}
    (repository / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    return repository


def test_what_a_stage_has_started_ends_with_this_process(long: Path) -> None:
    started: list[psutil.Process] = []

    def stop(line: str) -> None:
        if "Running stage" in line:
            started.append(begun(long))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce("long", stop)
    assert len(started) == 1 and not is_alive(started[0])


def test_what_a_stage_has_started_ends_with_a_process_that_is_killed(long: Path) -> None:
    code = "from tasks.versions import reproduce; reproduce('long', print)"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as caller:
        started = begun(long)
        os.killpg(caller.pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while is_alive(started):
        assert time.monotonic() < until
        time.sleep(0.05)
    (long / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"long": {"cmd": "true"}}}))
    reproduce("long", lambda _: None)  # DVC's lock is free again


def test_another_dvc_command_at_work_is_told_from_a_failure(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "ERROR: Unable to acquire lock. Most likely another DVC process is running or was terminated abruptly."
    monkeypatch.setattr(versions, "DVC", [sys.executable, "-c", f"import sys; print({said!r}); sys.exit(255)"])
    with pytest.raises(DvcBusyError, match="another DVC command is at work"):
        reproduce("good", lambda _: None)


def test_outside_of_git_and_dvc_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_sha() is None
    assert dvc_hashes({"dataset": "data"}) == {}
    (tmp_path / "weights").write_text("w")
    assert track(["weights"]) == []
