"""Services that run already: started anew where that ends nobody's work, and a server that is lost is told as such."""

import json
import os
import signal
import sys
from collections.abc import Iterator

import httpx
import psutil
import pytest

from flows import cli, prefect_toml, servers
from gan_core.errors import UserError
from tasks import sessions
from tests.flows.test_servers import page

__all__ = ["page"]
HERE = "http://127.0.0.1:4200/api"


def record_prefect(port: int) -> None:
    """Leave the record of a Prefect server that has ended."""
    command = [sys.executable, *servers._arguments("prefect", port, servers.LOOPBACK)]
    servers.FOLDER.mkdir(exist_ok=True)
    (servers.FOLDER / "prefect.json").write_text(json.dumps({"pid": 9, "command": command, "port": port}))


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.Running]:
    """A worker that serves the server at ``HERE``: a page in its place."""
    monkeypatch.setitem(servers.SERVICES, "worker", servers.SERVICES["page"])
    monkeypatch.setenv("PREFECT_API_URL", HERE)
    yield servers.start("worker")
    servers.stop("worker")


def test_runs_that_end_with_a_service_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    running = servers.start("page")
    monkeypatch.setattr(sessions, "ENGINES", {"http.server"})
    servers.stop("page", said.append)
    told = "page: 1 runs at work have ended with it: start them again to go on"
    assert said == [f"page: stopped {running.url}", told]
    servers.stop("page", said.append)
    assert said[2:] == ["page: was not running"]


def test_a_service_that_does_not_answer_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    hung = servers.start("page")
    os.kill(hung.pid, signal.SIGSTOP)
    monkeypatch.setattr(servers, "RECOVERY_S", 0.1)
    monkeypatch.setattr(sessions, "STOP_TIMEOUT_S", 1.0)
    running = servers.start("page", say=said.append)
    assert running.url == hung.url and not psutil.pid_exists(hung.pid) and sessions.answers_at(running.url)
    assert said == ["page: does not answer, and is started anew", f"page: stopped {hung.url}"]


def test_a_service_that_ends_meanwhile_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    first = servers.start("page")

    def ends(*_: object) -> str:
        psutil.Process(first.pid).kill()
        os.waitpid(first.pid, 0)
        return "does not answer"

    with monkeypatch.context() as patch:
        patch.setattr(servers, "_fault", ends)
        assert servers.start("page").pid != first.pid


def test_a_worker_of_another_server_is_started_anew(worker: servers.Running, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for same in (HERE, "http://localhost:4200/api/"):
        monkeypatch.setenv("PREFECT_API_URL", same)
        assert servers.start("worker", say=said.append) == worker and said == []
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4201/api")
    second = servers.start("worker", say=said.append)
    assert second.pid != worker.pid and second.api == "http://127.0.0.1:4201/api"
    assert said[0] == f"worker: serves {HERE}, and is started anew"


def test_a_worker_with_runs_at_work_goes_on(worker: servers.Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "ENGINES", {"http.server"})
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4201/api")
    told = rf"worker: serves {HERE}, and runs are at work \(1\): `edit-dataset server stop worker` ends them"
    with pytest.raises(UserError, match=told):
        servers.start("worker")
    monkeypatch.setattr(servers, "RECOVERY_S", 0.0)
    monkeypatch.setenv("PREFECT_API_URL", HERE)
    with pytest.raises(UserError, match="worker: does not answer, and runs are at work"):
        servers.start("worker")
    assert servers.find("worker") == worker and sessions.answers_at(worker.url)


@pytest.mark.parametrize("command", [["up"], ["start", "worker"]])
def test_where_no_prefect_server_answers_nothing_is_written_or_ended(
    command: list[str], worker: servers.Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prefect_toml.point_at(HERE, own=True)
    before = prefect_toml.POINTER.read_text()
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(SystemExit) as end:
        cli.main(["server", *command])
    told = "nothing answers at PREFECT_API_URL=http://127.0.0.1:9/api: name a server that runs, or unset it"
    assert end.value.code == 2 and capsys.readouterr().err == f"error: {told}\n"
    assert servers.find("worker") == worker and prefect_toml.POINTER.read_text() == before
    assert servers.find("mlflow") is None


@pytest.mark.parametrize("given", [HERE, f"{HERE}/", "http://localhost:4200/api"])
def test_the_projects_own_server_is_known_in_each_spelling(given: str) -> None:
    record_prefect(4200)
    assert servers.is_own(given) and not servers.is_own("http://elsewhere/api") and not servers.is_own("")


def test_a_process_knows_the_server_that_it_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ | {"PREFECT_API_URL": ""})
    monkeypatch.setattr(servers, "start", lambda *_: servers.Running(0, [], 9))
    assert servers.is_own(servers.use_prefect_server())


def test_a_prefect_toml_follows_the_projects_own_server_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(servers.SERVICES, "prefect", servers.SERVICES["page"])
    try:
        for own in (True, False):
            prefect_toml.point_at("http://127.0.0.1:4200/api", own)
            running = servers.start("prefect")
            named = f"{running.url}/api" if own else "http://127.0.0.1:4200/api"
            assert f'url = "{named}"' in prefect_toml.POINTER.read_text() and prefect_toml.is_ours()
    finally:
        servers.stop("prefect")


@pytest.mark.parametrize(
    ("known", "advice"),
    [
        ("record", "start it (`edit-dataset server start prefect`)"),
        ("chosen", "start it (`edit-dataset server start prefect`)"),
        ("other", "see that it runs, or unset PREFECT_API_URL,"),
    ],
)
def test_a_lost_server_is_told_in_one_line_with_what_to_do(
    known: str, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record_prefect(4200 if known == "record" else 4201)
    monkeypatch.setenv(servers.CHOSEN, "http://127.0.0.1:4200/api" if known == "chosen" else "")

    def gone(**_: object) -> None:
        raise httpx.ConnectError("All connection attempts failed")

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    monkeypatch.setattr(cli, "app", gone)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as end:
        cli.main(["run"])
    told = capsys.readouterr().err
    assert end.value.code == 1 and told.count("\n") == 1
    assert told.startswith("error: the Prefect server at http://127.0.0.1:4200 is lost; finished shards are kept")
    assert told.endswith(f": {advice} and run again to go on\n")
