"""The local Prefect server and MLflow UI of a project folder: start, find again, and stop exactly those."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from gan_core.errors import UserError

FOLDER = Path(".servers")
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Service:
    """A program that serves a web page: its command (``{port}`` is filled in), first port and health path."""

    command: str
    port: int
    health: str


STORE = "--backend-store-uri sqlite:///mlflow.db --artifacts-destination mlartifacts"
SERVICES = {
    "prefect": Service("prefect server start --host 127.0.0.1 --port {port}", 4200, "/api/health"),
    "mlflow": Service(f"mlflow server --host 127.0.0.1 --port {{port}} {STORE}", 5000, "/health"),
}


@dataclass(frozen=True)
class Running:
    """A service that this project started; ``created`` tells its process from a later one with the same pid."""

    pid: int
    created: float
    url: str


def prepare_environment() -> None:
    """Keep Prefect's data in the project and every tool from calling home; what is set already stays."""
    quiet = {
        "PREFECT_HOME": str(Path(".prefect").absolute()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "DVC_NO_ANALYTICS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def use_prefect_server(say: Callable[[str], object] = lambda _: None) -> str:
    """Point this process at ``PREFECT_API_URL`` if it is set, else at the project's server, started if need be."""
    prepare_environment()
    if "PREFECT_API_URL" not in os.environ:
        if find("prefect") is None:
            say("starting a Prefect server for this project (about 10 s)")
        os.environ["PREFECT_API_URL"] = start("prefect").url + "/api"
    return os.environ["PREFECT_API_URL"]


def find(name: str) -> Running | None:
    """Return the service that this project started, if its process is still that one."""
    try:
        running = Running(**json.loads((FOLDER / f"{name}.json").read_text()))
        alive = psutil.Process(running.pid)
        same = abs(alive.create_time() - running.created) < 1 and alive.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, TypeError, psutil.NoSuchProcess):
        return None
    return running if same else None


def start(name: str) -> Running:
    """Return the running service, or start it in a session of its own and wait until it answers."""
    with _locked():
        running = find(name) or _launch(name)
        _wait(name, running)
    return running


def stop(name: str) -> Running | None:
    """End the service that this project started, and its children; return it, or None if there was none."""
    with _locked():
        running = find(name)
        (FOLDER / f"{name}.json").unlink(missing_ok=True)
        if running is not None:
            _end(running)
    return running


def _launch(name: str) -> Running:
    service = SERVICES[name]
    port = _free_port(service.port)
    command = [sys.executable, "-m", *service.command.format(port=port).split()]
    prepare_environment()
    with (FOLDER / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    running = Running(process.pid, psutil.Process(process.pid).create_time(), f"http://127.0.0.1:{port}")
    (FOLDER / f"{name}.json").write_text(json.dumps(asdict(running)))
    return running


def _wait(name: str, running: Running) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _answers(running.url + SERVICES[name].health):
        if find(name) is None or time.monotonic() > deadline:
            raise UserError(f"the {name} server did not start: see {FOLDER / name}.log")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _end(running: Running) -> None:
    processes = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    os.killpg(running.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT_S)
    for process in alive:
        process.kill()


def _free_port(first: int) -> int:
    for port in range(first, first + 200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise UserError(f"no free port between {first} and {first + 199}")


@contextmanager
def _locked() -> Iterator[None]:
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
