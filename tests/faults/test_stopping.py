"""Ctrl-C: the first ends a run within a batch, as cancelled; the second at once. A killed parent takes its children."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextvars import copy_context
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from mlflow import MlflowClient

from gan_core import stopping
from gan_core.params import load_params
from gan_core.recipes.base import plan_run
from gan_core.runs.run_stage import run_stage
from gan_core.runs.stage import build_stage
from gan_core.stopping import (
    FIRST,
    STOPPED,
    Stopped,
    check_stop,
    forget_stop,
    name_work,
    request_stop,
    stop_requested,
    stoppable,
)
from tasks.dask_worker import LOOK_EVERY_S, end_tasks
from tasks.shards import _is_no_success

ROOT = Path(__file__).parents[2]
PATIENCE_S = 400.0
NO_DASK = pytest.mark.skipif(not find_spec("prefect_dask"), reason="Dask is an extra: pip install -e '.[dask]'")
PROCESSES = ["processes", pytest.param("dask", marks=NO_DASK)]
LONG = {"tune.steps": 300, "tune.batch_size": 1, "run.batch_size": 1, "run.workers": 2}


@pytest.fixture(autouse=True)
def unasked() -> None:
    forget_stop()


def test_a_stage_stops_between_two_batches_and_leaves_nothing(project: Path, tiny_dataset: str) -> None:
    run = plan_run(tiny_dataset, "out", overrides={"run.batch_size": 1}).begin()
    stage = build_stage("align", run.params, tiny_dataset)
    done: list[int] = []

    def progress(rows: int) -> None:
        done.append(rows)
        request_stop()

    with pytest.raises(Stopped):
        run_stage(stage, run.shards[0], "out", progress)
    assert done == [1] and list(Path("out/align").iterdir()) == []
    forget_stop()
    assert not run_stage(stage, run.shards[0], "out").reused


def test_the_first_interrupt_asks_and_the_second_ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    before = signal.getsignal(signal.SIGINT)
    with stoppable(lambda: ended.append(0)):
        signal.raise_signal(signal.SIGINT)
        assert capfd.readouterr().err == f"{FIRST}\n" and ended == []
        with pytest.raises(Stopped):
            check_stop()
        signal.raise_signal(signal.SIGINT)
        assert ended == [0, stopping.STOPPED_EXIT_CODE]
    check_stop()
    assert signal.getsignal(signal.SIGINT) is before


def _is_stopped(name: str) -> bool:
    name_work(name)
    try:
        check_stop()
    except Stopped:
        return True
    return False


def test_only_the_work_of_a_name_is_stopped_where_a_process_serves_several() -> None:
    def asked(name: str) -> bool:
        return copy_context().run(_is_stopped, name)

    request_stop("first")
    assert asked("first") and not asked("second") and not stop_requested() and stop_requested("first")
    ended = logging.LogRecord("prefect.task_runs", logging.ERROR, "", 0, "Finished in state Cancelled()", None, None)
    assert not _is_no_success(logging.makeLogRecord(ended.__dict__ | {"flow_run_id": "first"}))
    assert _is_no_success(logging.makeLogRecord(ended.__dict__ | {"flow_run_id": "second"}))
    forget_stop("first")
    assert not asked("first")


def test_a_worker_of_dask_is_waited_for_until_it_has_ended_the_tasks() -> None:
    worker = SimpleNamespace(active_threads={1: "mine", 2: "other"})

    async def wait() -> None:
        waiting = asyncio.create_task(end_tasks(["mine", "late"], worker))
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert not waiting.done()
        del worker.active_threads[1]
        await asyncio.wait_for(waiting, 10)

    asyncio.run(wait())


class Command:
    """A command over the small dataset that tunes for long, in a session of its own."""

    def __init__(self, *words: str, environment: dict[str, str]) -> None:
        more = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env=os.environ | more | environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until(self, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not there():
            assert self.process.poll() is None and time.monotonic() < deadline, self.process.communicate()[0]
            time.sleep(0.05)

    def end(self) -> str:
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return said


def run_words(source: str, runner: str) -> list[str]:
    settings = [part for name, value in LONG.items() for part in ("--set", f"{name}={value}")]
    return ["flows.cli", "run", source, "out", *settings, "--set", f"run.runner={runner}"]


def tuning() -> bool:
    """Whether a shard is being tuned."""
    return any(Path("out/tune").glob(".*.lock"))


def begin_tuning(source: str, runner: str, environment: dict[str, str]) -> Command:
    """Start a run, and return its command when a shard is being tuned."""
    command = Command(*run_words(source, runner), environment=environment)
    command.wait_until(tuning)
    return command


def states(server: str) -> list[str]:
    """The states of the flow runs that write into ``out``."""
    asked = json.dumps({"flow_runs": {"name": {"any_": ["out"]}}, "sort": "EXPECTED_START_TIME_DESC"}).encode()
    request = urllib.request.Request(f"{server}/flow_runs/filter", asked, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return [run["state_type"] for run in json.loads(reply.read())]


@pytest.fixture
def environment(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"PREFECT_API_URL": prefect_server, "PREFECT_HOME": str(tmp_path_factory.mktemp("home"))}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("runner", ["threads", *PROCESSES])
def test_the_first_interrupt_ends_a_flow_as_cancelled(
    project: Path, tiny_dataset: str, prefect_server: str, environment: dict[str, str], runner: str
) -> None:
    command = begin_tuning(tiny_dataset, runner, environment)
    os.killpg(command.process.pid, signal.SIGINT)
    said = command.end()
    assert command.process.returncode == stopping.STOPPED_EXIT_CODE, said
    assert said.count(FIRST) == 1 and said.splitlines()[-1] == STOPPED and "Traceback" not in said
    assert states(prefect_server)[0] == "CANCELLED"
    left = sorted(path.name for path in Path("out").rglob("*") if path.name.startswith("."))
    assert left == [] and len(list(Path("out/tune").glob("*.receipt.json"))) < 3


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("runner", ["threads", *PROCESSES])
def test_a_flow_that_is_terminated_ends_within_a_batch_and_is_tracked(
    project: Path, tiny_dataset: str, prefect_server: str, environment: dict[str, str], runner: str
) -> None:
    command = begin_tuning(tiny_dataset, runner, environment)
    command.process.terminate()
    command.end()
    assert command.process.returncode == -signal.SIGTERM
    assert states(prefect_server)[0] == "CRASHED"
    assert [path.name for path in Path("out").rglob("*") if path.name.startswith(".shard")] == []
    assert list(Path("out/tune").glob("*.receipt.json")) == []
    track = load_params().track
    client = MlflowClient(track.uri)
    (tracked,) = client.search_runs([client.get_experiment_by_name(track.experiment).experiment_id])
    assert (tracked.info.status, tracked.data.tags["error"]) == ("KILLED", "TerminationSignal")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("runner", ["threads", *PROCESSES])
def test_the_second_interrupt_ends_a_flow_at_once(
    project: Path, tiny_dataset: str, prefect_server: str, environment: dict[str, str], runner: str
) -> None:
    command = begin_tuning(tiny_dataset, runner, environment)
    family = psutil.Process(command.process.pid).children(recursive=True)
    for _ in range(2):
        os.killpg(command.process.pid, signal.SIGINT)
        time.sleep(0.5)
    said = command.end()
    assert command.process.returncode == stopping.STOPPED_EXIT_CODE and "Traceback" not in said, said
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert states(prefect_server)[0] == "CANCELLED"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("runner", PROCESSES)
def test_a_killed_parent_leaves_no_process(
    project: Path, tiny_dataset: str, environment: dict[str, str], runner: str
) -> None:
    command = begin_tuning(tiny_dataset, runner, environment)
    family = psutil.Process(command.process.pid).children(recursive=True)
    assert len(family) >= 2
    command.process.kill()
    assert psutil.wait_procs(family, timeout=10)[1] == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_interrupt_ends_the_plain_loop(project: Path, tiny_dataset: str) -> None:
    import yaml

    params = yaml.safe_load(Path("params.yaml").read_text())
    for name, value in LONG.items():
        section, key = name.split(".")
        params[section][key] = value
    Path("params.yaml").write_text(yaml.safe_dump(params))
    command = Command("gan_core.plain", tiny_dataset, "out", environment={})
    command.wait_until(tuning)
    command.process.send_signal(signal.SIGINT)
    said = command.end()
    assert command.process.returncode == stopping.STOPPED_EXIT_CODE
    assert said.splitlines() == [FIRST, STOPPED]
    assert not any(path.name.endswith(".tmp") for path in Path("out").rglob("*"))
