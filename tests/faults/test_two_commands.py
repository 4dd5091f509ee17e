"""Two commands make one run: the first goes on, the second says who holds it, and neither writes over the other."""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows import cli, servers
from flows.batches import _done, _receipts
from flows.edit_dataset import edit_dataset
from gan_core.errors import DataError, ParamsError
from gan_core.plain import main, run_plain
from gan_core.recipes.base import Plan, plan_run
from gan_core.runs.run import load_run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage
from gan_core.stopping import Stopped, check_stop
from gan_core.storage import holding
from gan_core.storage.atomic import FOLDER_LOCK, atomic_write, write_bytes
from gan_core.storage.receipts import receipt_path

QUICK: dict[str, Any] = {"tune.enabled": False, "edits": [], "measure.metrics": ["mse"]}
HELD = r"out is being written by process \d+ on \S+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d: wait for that run to end"


def plan(source: str, output: str = "out", update: bool = False, **overrides: Any) -> Plan:
    return plan_run(source, output, overrides=QUICK | overrides, update=update)


def test_the_plain_loop_refuses_with_one_line_and_code_2(
    project: Path, tiny_dataset: str, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = plan(tiny_dataset)
    with mine.held():
        with pytest.raises(DataError, match=HELD):
            run_plain(plan(tiny_dataset))
        with pytest.raises(SystemExit) as end:
            main([tiny_dataset, "out"])
    told = capfd.readouterr()
    assert end.value.code == 2 and told.err.count("\n") == 1 and told.err.startswith("error: out is being written by")
    assert not Path("out/run.json").exists()


@pytest.mark.parametrize("command", ["run", "retry-failed"])
def test_commands_refuse_before_they_start_a_server(
    project: Path,
    tiny_dataset: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setattr(servers, "use_prefect_server", lambda _: pytest.fail("went on"))
    mine = plan_run(tiny_dataset, "out")
    run = mine.begin()
    run_stage(build_stage("align", run.params, tiny_dataset), run.shards[0], "out")
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    words = ["run", tiny_dataset, "out"] if command == "run" else ["retry-failed", "out", "--reason", "not_an_image"]
    with mine.held(), pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2 and "error: out is being written by process" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before


def test_a_run_that_has_begun_since_it_was_planned_is_seen(project: Path, tiny_dataset: str) -> None:
    """Both are planned while nothing is there; the second is refused although the first has ended."""
    first, second = plan(tiny_dataset), plan(tiny_dataset, **{"align.size": 32})
    with first.held():
        first.begin()
    with pytest.raises(ParamsError, match="out holds another run"), second.held():
        pytest.fail("went on")
    again = plan(tiny_dataset, update=True, **{"align.size": 32})
    with again.held():
        again.begin()
    assert load_run("out").params.align.size == 32


def test_two_updates_cannot_both_go_on(project: Path, tiny_dataset: str) -> None:
    one, other = (plan(tiny_dataset, update=True, **{"align.size": size}) for size in (32, 48))
    with one.held():
        one.begin()
        with pytest.raises(DataError, match=HELD), other.held():
            pytest.fail("went on")
    assert load_run("out").params.align.size == 32


def test_a_flow_refuses_a_bucket_that_is_held(
    project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "SETTLE_S", 0.01)
    fsspec.filesystem("memory").store.clear()
    mine = plan(tiny_dataset, "memory://two/out")
    with mine.held(), pytest.raises(DataError, match=HELD), plan(tiny_dataset, "memory://two/out").held():
        pytest.fail("went on")


def test_a_holder_whose_lease_is_lost_stops(project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "SETTLE_S", 0.01)
    monkeypatch.setattr(holding, "BEAT_S", 0.01)
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    mine = plan(tiny_dataset, "memory://two/out")
    waiting = threading.Event()
    with pytest.raises(DataError, match=r"another command has taken memory://two/out over"), mine.held():
        fs.pipe_file(f"/two/out/{FOLDER_LOCK}", json.dumps({"id": "other"}).encode())
        with pytest.raises(Stopped):
            while not waiting.wait(0.01):
                check_stop()
        raise Stopped
    check_stop()


def test_a_shard_that_another_run_made_meanwhile_is_seen(project: Path, tiny_dataset: str) -> None:
    run = plan(tiny_dataset).begin()
    shard = run.shards[0]
    run_stage(build_stage("align", run.params, tiny_dataset), shard, "out")
    assert _done(run, "align", shard, {})["stage"] == "align"
    other = plan(tiny_dataset, update=True, **{"align.size": 32}).run
    run_stage(build_stage("align", other.params, tiny_dataset), shard, "out")
    with pytest.raises(DataError, match="it was made with other parameters or networks: `edit-dataset run"):
        _done(run, "align", shard, {})


def test_a_damaged_receipt_from_before_is_none(project: Path, tiny_dataset: str) -> None:
    run = plan(tiny_dataset).begin()
    shard = run.shards[0]
    path = Path(receipt_path(run.shard("align", shard)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"key": ')
    before = dict(_receipts(run))
    run_stage(build_stage("align", run.params, tiny_dataset), shard, "out")
    assert _done(run, "align", shard, before)["skipped"] is False
    assert _done(run, "align", shard, dict(_receipts(run)))["skipped"] is True


def forked(work: Callable[[], object]) -> int:
    """Do the work in a process of its own and return its exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)  # the threads of this process are not there, and would be waited for
            work()
            os._exit(0)
        except BaseException:
            os._exit(3)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("name", ["run.json", "summary.json", "report.html", "finished.json"])
def test_what_a_killed_command_left_is_swept_and_the_run_goes_on(
    project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    replace = os.replace

    def kill(source: Any, target: Any) -> None:
        if str(target).endswith(name):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    def write() -> None:
        monkeypatch.setattr(os, "replace", kill)
        mine = plan(tiny_dataset)
        with mine.held():
            mine.begin()
            for other in ("summary.json", "report.html", "finished.json"):
                write_bytes(f"out/{other}", b"{}")

    assert forked(write) == signal.SIGKILL
    left = [path.name for path in Path("out").iterdir() if path.name.startswith(".")]
    assert len(left) == 2 and FOLDER_LOCK in left
    again = plan(tiny_dataset)
    with again.held():
        again.begin()
        assert [path.name for path in Path("out").iterdir() if path.name.startswith(".")] == [FOLDER_LOCK]
    assert load_run("out").stages == again.run.stages and not Path("out", FOLDER_LOCK).exists()


def test_temporaries_in_use_and_of_others_are_not_swept(project: Path, tiny_dataset: str) -> None:
    mine = plan(tiny_dataset)
    with atomic_write("out/pending.json") as file, mine.held():
        file.write(b"{}")
        Path("out/notes.tmp").touch()
        Path("out/.notes.12-zz.tmp").touch()
        mine.begin()
    assert {path.name for path in Path("out").iterdir()} == {
        "pending.json",
        "notes.tmp",
        ".notes.12-zz.tmp",
        "run.json",
    }


@pytest.mark.slow
def test_of_identical_commands_at_once_one_ends_well(project: Path, tiny_dataset: str) -> None:
    ended: list[int] = []

    def go() -> None:
        ended.append(forked(lambda: run_plain(plan(tiny_dataset))) >> 8)

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) in ([0, 3, 3], [0, 0, 3], [0, 0, 0]) and Path("out/report.html").is_file()


@pytest.mark.slow
def test_a_flow_that_is_held_elsewhere_fails_in_a_line(
    project: Path, tiny_dataset: str, prefect_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        temporary_settings({PREFECT_API_URL: prefect_server, PREFECT_HOME: project / "home"}),
        plan(tiny_dataset).held(),
        pytest.raises(DataError, match=HELD),
    ):
        edit_dataset(tiny_dataset, "out", overrides=QUICK)
    assert "Traceback" not in caplog.text


def test_a_source_that_is_spelled_otherwise_is_the_same_run(project: Path, tiny_dataset: str) -> None:
    plan(tiny_dataset).begin()
    assert plan(f"{tiny_dataset}/").begin().rows == plan(os.path.relpath(tiny_dataset)).begin().rows


def test_a_run_is_not_made_inside_another_one(project: Path, tiny_dataset: str) -> None:
    plan(tiny_dataset).begin()
    with pytest.raises(DataError, match="out/paste lies in another run: choose a folder outside of it"):
        plan(tiny_dataset, "out/paste")
