"""Servers killed in the middle of work: the run ends or is resumed with the same bytes, and says what happened."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows import servers
from flows.edit_dataset import edit_dataset
from flows.servers import Running
from tasks.record import read_record
from tasks.tracking.runs import sync
from tests.faults.test_kill_flow import Runs, hashes, written
from tests.postgresql import PROGRAMS, REASON, PostgreSQL

SLOW: dict[str, Any] = {"edits": [], "measure.metrics": ["mse"], "tune.steps": 20, "run.workers": 1}
PATIENCE_S = 600.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def own_servers(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers that are started are this test's, on ports that no other project begins at, and stopped in the end."""
    for name, port in {"prefect": 7400, "mlflow": 7600}.items():
        monkeypatch.setitem(servers.SERVICES, name, replace(servers.SERVICES[name], port=port))
    monkeypatch.setattr(servers, "FOLDER", project / ".servers")
    monkeypatch.setenv("PREFECT_HOME", str(project / ".prefect"))
    yield
    for name in ("prefect", "mlflow"):
        servers.stop(name)


def kill(running: Running) -> None:
    """Kill a server and its children."""
    os.killpg(running.pid, signal.SIGKILL)


def after(output: str, receipts: int, do: Callable[[], object]) -> threading.Thread:
    """Do something in the background when so many shards are finished."""

    def wait() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(written(output)) < receipts and time.monotonic() < deadline:
            time.sleep(0.05)
        do()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.usefixtures("own_servers")
def test_without_mlflow_a_run_ends_whole_and_is_logged_later(
    project: Path, tiny_dataset: str, prefect_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow = servers.start("mlflow")
    with temporary_settings({PREFECT_API_URL: prefect_server, PREFECT_HOME: project / "home"}):
        edit_dataset(tiny_dataset, "alone", overrides=SLOW)
        killer = after("killed", 3, lambda: kill(mlflow))
        edit_dataset(tiny_dataset, "killed", overrides=SLOW | {"track.uri": mlflow.url})
    assert not killer.is_alive() and hashes("killed") == hashes("alone")
    said = caplog.text
    assert "can't log to" in said and "edit-dataset sync killed" in said
    assert read_record("killed") is not None and sync_again(mlflow, "killed")


def sync_again(mlflow: Running, output: str) -> bool:
    """Start MLflow again and log what is pending there; tell whether it has a finished run now."""
    again = servers.start("mlflow")
    assert again.url == mlflow.url
    logged = sync(output)
    return logged.new and MlflowClient(again.url).get_run(logged.run_id).info.status == "FINISHED"


@pytest.mark.usefixtures("own_servers")
def test_without_prefects_server_the_command_ends_with_one_line_and_can_go_on(
    project: Path, tiny_dataset: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "1")
    prefect = servers.start("prefect")
    runs = Runs(tiny_dataset, f"{prefect.url}/api", tmp_path_factory.mktemp("home"))
    runs.finish("alone")
    process = runs.start("killed")
    killer = after("killed", 3, lambda: kill(prefect))
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1 and not killer.is_alive(), said
    assert said.splitlines()[-1].startswith(f"error: the Prefect server at {prefect.url} is lost; finished shards are")
    assert "Traceback" not in said and Path("killed/tracking.json").is_file()
    early = written("killed")
    assert servers.start("prefect").url == prefect.url
    assert f"{len(early)} of 15 shards skipped" in runs.finish("killed")
    assert len(early) >= 3 and early.items() <= written("killed").items() and hashes("killed") == hashes("alone")


@pytest.mark.usefixtures("own_servers")
def test_a_run_does_not_mind_that_prefects_server_is_killed_and_started_again(
    project: Path, tiny_dataset: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    prefect = servers.start("prefect")
    runs = Runs(tiny_dataset, f"{prefect.url}/api", tmp_path_factory.mktemp("home"))
    runs.finish("alone")
    process = runs.start("killed")
    after("killed", 3, lambda: kill(prefect)).join()
    assert servers.start("prefect").url == prefect.url
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert hashes("killed") == hashes("alone")


@pytest.mark.skipif(not PROGRAMS, reason=REASON)
@pytest.mark.usefixtures("own_servers")
def test_a_database_that_is_gone_for_a_while_loses_nothing(
    project: Path, tiny_dataset: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = PostgreSQL()
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"postgresql+asyncpg://{database.address('prefect')}")
    try:
        runs = Runs(tiny_dataset, f"{servers.start('prefect').url}/api", tmp_path_factory.mktemp("home"))
        runs.finish("alone")
        process = runs.start("killed")
        killer = after("killed", 3, database.kill)
        killer.join()
        time.sleep(5)
        database.start()
        said, _ = process.communicate(timeout=PATIENCE_S)
        if process.returncode:
            assert "error: the Prefect server" in said.splitlines()[-1] and "run again" in said
            runs.finish("killed")
        assert hashes("killed") == hashes("alone")
    finally:
        servers.stop("prefect")
        database.remove()
