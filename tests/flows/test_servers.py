"""The project's own servers: found again, stopped exactly, and never confused with somebody else's."""

import errno
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.logging import disable_run_logger

from flows import deployments, ledger, prefect_api, prefect_toml, servers
from flows.doctor import examine
from flows.project import hidden_packages
from gan_core.errors import UserError
from tasks import sessions


@pytest.fixture(autouse=True)
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A service ``page`` that is quick to start, in a project of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(servers, "FOLDER", Path(".servers"))
    monkeypatch.setenv(servers.CHOSEN, "")
    monkeypatch.setitem(servers.SERVICES, "page", servers.Service("http.server {port} --bind 127.0.0.1", 8300, "/"))
    yield
    servers.stop("page")


def test_a_service_is_started_once_found_and_stopped() -> None:
    assert servers.find("page") is None and servers.stop("page") is None
    running = servers.start("page")
    assert sessions.answers_at(running.url)
    assert servers.start("page") == running == servers.find("page")
    assert servers.stop("page") == running
    assert not sessions.answers_at(running.url)
    assert servers.find("page") is None and not psutil.pid_exists(running.pid)


def test_a_stop_that_is_interrupted_leaves_a_service_that_can_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> int:
        raise KeyboardInterrupt

    running = servers.start("page")
    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupted.setattr(servers, "end", interrupt)
        servers.stop("page")
    assert servers.find("page") == running


def test_a_command_line_that_is_not_there_yet_is_no_reason_to_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[str] = []
    empty, cmdline, launch = iter(range(3)), psutil.Process.cmdline, servers._launch
    monkeypatch.setattr(psutil.Process, "cmdline", lambda it: cmdline(it) if next(empty, None) is None else [])
    monkeypatch.setattr(servers, "_launch", lambda name, host: launched.append(name) or launch(name, host))
    assert servers.start("page") == servers.find("page")
    assert launched == ["page"]


def test_a_process_that_only_has_the_recorded_number_is_left_alone() -> None:
    innocent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        servers.FOLDER.mkdir()
        record = {"pid": innocent.pid, "command": [sys.executable, "-m", "http.server"], "port": 8300}
        (servers.FOLDER / "page.json").write_text(json.dumps(record))
        assert servers.find("page") is None and servers.stop("page") is None
        assert innocent.poll() is None
    finally:
        innocent.communicate(b"\n")


@pytest.mark.parametrize("more", [{}, {"pid": 1}, {"pid": -1}, {"pid": 0}, {"port": "8300"}, {"command": []}], ids=repr)
def test_a_record_that_names_another_program_ends_nothing(more: dict[str, object]) -> None:
    """Its number and command line are those of a living process, but not of a service of this project."""
    innocent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        sessions.await_command_line(innocent.pid)
        servers.FOLDER.mkdir()
        record = {"pid": innocent.pid, "command": [sys.executable, "-c", "input()"], "port": 8300} | more
        (servers.FOLDER / "page.json").write_text(json.dumps(record))
        assert servers.find("page") is None and servers.stop("page") is None
        assert innocent.poll() is None
    finally:
        innocent.communicate(b"\n")


@pytest.mark.parametrize("text", ["[]", "{}", "", "[" * 100_000, '{"pid": "x", "command": 3, "port": 1}', "null"])
def test_a_record_that_is_damaged_is_none(text: str) -> None:
    servers.FOLDER.mkdir()
    (servers.FOLDER / "page.json").write_text(text)
    assert servers.find("page") is None


def test_a_port_that_somebody_took_meanwhile_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        first, free_port = iter([port]), servers.free_port
        monkeypatch.setattr(
            servers, "free_port", lambda preferred, host: next(first, None) or free_port(preferred, host)
        )
        monkeypatch.setattr(servers, "answers_at", lambda _: True)
        running = servers.start("page")
    assert running.port != port and next(first, None) is None
    assert sessions.listens(running.pid, running.port)


def test_a_service_that_does_not_start_is_an_error_naming_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(servers.SERVICES, "page", servers.Service("no_such_module {port}", 8300, "/"))
    with pytest.raises(UserError, match=r"page server did not start: see \.servers/page\.log"):
        servers.start("page")
    assert "No module named no_such_module" in (servers.FOLDER / "page.log").read_text()


def test_an_address_in_the_environment_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setattr(servers, "start", lambda _: pytest.fail("started a server"))
    assert servers.use_prefect_server() == "http://elsewhere/api"


def test_an_empty_address_in_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.setattr(servers, "start", lambda *_: servers.Running(0, [], 9))
    assert servers.use_prefect_server() == "http://127.0.0.1:9/api"


def test_no_port_above_the_last_one_is_tried() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 65535))
        taken.listen()
        with pytest.raises(UserError, match="no free port between 65535 and 65535: end what listens there"):
            servers.free_port(65535)


def test_nothing_calls_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED", "PREFECT_HOME", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "yes")
    environment = servers.quiet_environment()
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false" and environment["DO_NOT_TRACK"] == "1"
    assert environment["PREFECT_HOME"] == str(Path.cwd() / ".prefect")
    assert environment["DVC_NO_ANALYTICS"] == "yes"


def test_prefects_page_asks_its_own_server_at_any_port() -> None:
    assert (
        servers._environment(servers.SERVICES["prefect"], 4321, "127.0.0.1")["PREFECT_UI_API_URL"]
        == "http://127.0.0.1:4321/api"
    )


def refused(status: int) -> httpx.HTTPStatusError:
    """The error of an answer with this status."""
    return httpx.HTTPStatusError("refused", request=httpx.Request("GET", "http://s"), response=httpx.Response(status))


def test_a_server_that_is_gone_or_broken_is_lost_and_one_that_refuses_is_not() -> None:
    outer = RuntimeError("the run ended")
    outer.__cause__ = httpx.ConnectError("no route")
    assert all(prefect_api.is_lost(error) for error in (httpx.ReadTimeout("late"), refused(503), outer))
    assert not any(prefect_api.is_lost(error) for error in (refused(404), ValueError("spoiled"), None))


def test_only_a_lost_server_loses_its_traceback() -> None:
    ledger.hide_lost_tracebacks()
    logger = logging.getLogger("prefect.flow_runs")

    def shown(error: Exception) -> bool:
        record = logger.makeRecord("", 40, "", 0, "failed", (), (type(error), error, None))
        return bool(logger.filter(record)) and record.exc_info is not None

    assert not shown(httpx.ConnectError("no route")) and shown(ValueError("spoiled"))


def test_progress_that_cannot_be_shown_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise httpx.ConnectError("no route")

    with disable_run_logger():
        monkeypatch.setattr(ledger, "update_progress_artifact", gone)
        assert ledger._update("id", 0.5) is False
        monkeypatch.setattr(ledger, "update_progress_artifact", lambda *_: None)
        assert ledger._update("id", 0.5) is True


def test_the_pools_and_deployments_are_there_before_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def start(name: str, host: str = "", say: object = None) -> servers.Running:
        done.append(name)
        return servers.Running(0, [], 1)

    def prefect(*arguments: str) -> subprocess.CompletedProcess[str]:
        done.append(" ".join(arguments[:3]))
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(servers, "use_prefect_server", lambda *_, **__: "http://elsewhere/api")
    monkeypatch.setattr("flows.automations.automate", lambda: [])
    monkeypatch.setattr(servers, "start", start)
    monkeypatch.setattr(servers, "deploy", lambda: done.append("deploy"))
    monkeypatch.setattr(deployments, "_prefect", prefect)
    servers.up()
    first, *rest = Path("prefect.toml").read_text().splitlines()
    assert first.startswith(prefect_toml.WRITTEN_BY) and rest == ["[api]", 'url = "http://elsewhere/api"']
    pools = [f"work-pool create {pool}" for pool in ("local", "shards")]
    assert done == ["mlflow", *pools, "deploy", "worker"]


def test_a_copied_project_takes_no_server_of_the_original_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = servers.start("page")
    prefect_toml.POINTER.write_text(f"{prefect_toml.WRITTEN_BY} in {tmp_path}, removed by `server down`.\n")
    said: list[str] = []
    prefect_toml.drop_copied(said.append)
    assert said == [] and prefect_toml.POINTER.is_file()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(servers.FOLDER, copy / ".servers")
    shutil.copy(prefect_toml.POINTER, copy)
    with monkeypatch.context() as there:
        there.chdir(copy)
        assert servers.find("page") is None and servers.stop("page") is None
        prefect_toml.drop_copied(said.append)
        assert len(said) == 1 and not prefect_toml.POINTER.exists()
        own = servers.start("page")
        assert own.port != original.port and servers.find("page") == own
        assert servers.stop("page") == own
    assert servers.find("page") == original and prefect_toml.POINTER.is_file()


def test_servers_listen_where_it_is_asked_for_and_nowhere_else_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(servers.SERVICES, "page", servers.Service("http.server {port} --bind {host}", 8300, "/"))
    assert servers.start("page").host == servers.LOOPBACK
    with pytest.raises(UserError, match=r"page listens at 127\.0\.0\.1 already: `edit-dataset server down`"):
        servers.start("page", "127.0.0.2")
    servers.stop("page")
    running = servers.start("page", "127.0.0.2")
    assert running.url == f"http://127.0.0.2:{running.port}" and servers.start("page") == running
    for host in ("localhost", "::1", "10.0.0.1; rm", "", "300.0.0.1"):
        with pytest.raises(UserError, match="write the IPv4 address of this machine"):
            servers.up(host=host)
    assert servers.Running(1, [], 9, servers.EVERYWHERE).url == "http://127.0.0.1:9"
    pages = [servers.SERVICES[name].command for name in ("prefect", "mlflow")]
    assert all("--host {host}" in command for command in pages)


@pytest.mark.parametrize("theirs", ["flows/__init__.py", "tasks.py"])
def test_a_folder_whose_own_package_hides_ours_is_refused(theirs: str) -> None:
    Path(theirs).parent.mkdir(exist_ok=True)
    Path(theirs).touch()
    with pytest.raises(UserError, match=f"would take {theirs} for a package of edit-dataset"):
        servers.up()
    assert not Path(".servers").exists()
    assert {check.found: check.mend for check in examine()}[
        f"{theirs} hides a package of edit-dataset from Prefect and DVC here"
    ] == "rename it"


def test_a_folder_of_other_files_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/notes.py").touch()
    assert hidden_packages() == []


def test_a_server_that_takes_no_automations_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def refused() -> Iterator[str]:
        yield "one"
        raise httpx.ConnectError("403 forbidden\nmore")

    monkeypatch.setattr("flows.automations.automate", refused)
    servers._automate(said.append)
    assert said == ["one", "automations were not made: 403 forbidden"]


def test_a_prefect_toml_of_others_is_neither_written_over_nor_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("prefect.toml").write_text("[logging]\nlevel = 'DEBUG'\n")
    monkeypatch.setattr(servers, "use_prefect_server", lambda *_, **__: "http://elsewhere/api")
    monkeypatch.setattr(servers, "start", lambda *_, **__: servers.Running(0, [], 1))
    for name in ("make_pools", "deploy"):
        monkeypatch.setattr(servers, name, lambda: None)
    monkeypatch.setattr(servers, "_automate", lambda _: None)
    said: list[str] = []
    servers.up(said.append)
    servers.down()
    assert Path("prefect.toml").read_text() == "[logging]\nlevel = 'DEBUG'\n"
    assert any("prefect.toml is not ours and stays as it is" in line for line in said)


def test_a_folder_that_cannot_keep_servers_is_told_in_one_line() -> None:
    Path(".servers").write_text("a file")
    with pytest.raises(UserError, match=r"can't keep servers in .*\.servers \(File exists\): .*PREFECT_API_URL"):
        servers.start("page")
    Path(".servers").unlink()


def test_a_service_that_cannot_be_recorded_is_ended_and_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[int] = []

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(servers, "await_command_line", launched.append)
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"can't write \.servers/page\.json: the disk is full: free some space"):
            servers.start("page")
    assert len(launched) == 1 and not psutil.pid_exists(launched[0]) and servers.find("page") is None
