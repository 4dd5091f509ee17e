"""The Prefect server, worker and MLflow server of a project folder: start, find again, and stop exactly those."""

import fcntl
import ipaddress
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from flows import prefect_toml
from flows.deployments import POOL, deploy, make_pools
from flows.prefect_api import ask_version
from flows.project import FOLDER_VARIABLE, hidden_packages
from flows.proxies import direct_environment, unusable_proxies
from gan_core.errors import UserError
from gan_core.secrets import hide
from gan_core.storage.atomic import explain_os_errors, write_bytes
from tasks.sessions import answers_at, await_command_line, end, flow_runs, listens
from tasks.tracking.address import DEFAULT_URI, OWN_SERVER, STORE
from tasks.tracking.artifacts import FOLDER as ARTIFACTS
from tasks.tracking.artifacts import SERVED

FOLDER = Path(".servers")
CHOSEN = "EDIT_DATASET_PREFECT"
"""The address of the project's Prefect server, where this process has chosen it."""
START_TIMEOUT_S = 300.0
RECOVERY_S = 60.0
"""How long a service that runs already may take to answer before it is started anew."""
ATTEMPTS = 3


@dataclass(frozen=True)
class Service:
    """A program with a web page: its command, first port, health path and environment.

    ``{port}`` and ``{host}`` (where it listens) are filled in in both, ``{folder}`` and ``{address}`` (where others
    find it) in the environment.
    """

    command: str
    port: int
    health: str
    environment: dict[str, str] = field(default_factory=dict)


LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
WORKER_PAGE = {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": "{port}"}
SERVICES = {
    "prefect": Service(
        "prefect server start --host {host} --port {port}",
        4200,
        "/api/health",
        {"PREFECT_UI_API_URL": "http://{address}:{port}/api"},  # else its page asks whoever is at 4200
    ),
    "mlflow": Service(
        "mlflow server --workers 1 --host {host} --port {port} "
        f"--serve-artifacts --default-artifact-root {SERVED} --artifacts-destination {ARTIFACTS}",
        5000,
        "/health",
    ),
    "worker": Service(
        f"prefect worker start --pool {POOL} --type process --name {POOL} --with-healthcheck",
        8080,
        "/health",
        WORKER_PAGE | {"PREFECT_WORKER_QUERY_SECONDS": "2", FOLDER_VARIABLE: "{folder}"},
    ),
}


@dataclass(frozen=True)
class Running:
    """A service that this project started; ``command`` tells its process from a later one with the same pid.

    ``host`` is the address that it listens at, ``api`` that of the Prefect server which a worker serves.
    """

    pid: int
    command: list[str]
    port: int
    host: str = LOOPBACK
    api: str = ""

    @property
    def url(self) -> str:
        """The address of its page, on this machine."""
        return f"http://{_near(self.host)}:{self.port}"


def quiet_environment() -> dict[str, str]:
    """Return the environment that keeps Prefect's data in the project and turns telemetry off.

    Variables that are set already are kept; proxies are not asked for what runs here, and runs are logged to the
    project's MLflow server while it answers.
    """
    quiet = {
        "PREFECT_HOME": str(Path(".prefect").absolute()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # In memory, as is the default, a limit's slot is never freed after a crash of server and run together.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        STORE: DEFAULT_URI,
        "DVC_NO_ANALYTICS": "1",
    }
    running = {name: found for name in SERVICES if (found := find(name)) is not None}
    mlflow = running.get("mlflow")
    own = {OWN_SERVER: f"{mlflow.pid} {mlflow.url}" if mlflow is not None and answers("mlflow", mlflow) else ""}
    return quiet | os.environ | own | direct_environment(os.environ, [service.host for service in running.values()])


def use_quiet_environment() -> None:
    """Put ``quiet_environment`` into the environment of this process."""
    os.environ |= quiet_environment()


def use_prefect_server(say: Callable[[str], object] = lambda _: None, host: str = "", needed: bool = False) -> str:
    """Point this process at ``PREFECT_API_URL`` if it is set, else at the project's server, started if need be.

    Raises ``UserError`` if something else than a server that can be used answers there; if it is ``needed``, also where
    nothing answers.
    """
    prefect_toml.drop_copied(say)
    for name in unusable_proxies(os.environ):
        say(f"{name} is not used: Prefect's client can't read it; for SOCKS, `pip install 'httpx[socks]'`")
    use_quiet_environment()
    if not (given := os.environ.get("PREFECT_API_URL")):
        if find("prefect") is None:
            say("starting a Prefect server for this project (about 10 s)")
        os.environ["PREFECT_API_URL"] = os.environ[CHOSEN] = start("prefect", host, say).url + "/api"
    address = os.environ["PREFECT_API_URL"]
    if not ask_version(address) and needed and given not in (None, "", os.environ.get(CHOSEN)):
        raise UserError(f"nothing answers at PREFECT_API_URL={hide(address)}: name a server that runs, or unset it")
    return address


def prefect_address() -> str:
    """Return the API address of the server that runs are shown on, or an empty string if none runs."""
    running = find("prefect")
    return os.environ.get("PREFECT_API_URL") or (f"{running.url}/api" if running else "")


def connect(say: Callable[[str], object]) -> str:
    """Do the same as ``use_prefect_server``, and print the address of the server's page; return its API address."""
    address = use_prefect_server(say)
    say(f"Prefect: {hide(address.removesuffix('/api'))} (`edit-dataset server stop` ends a local one)")
    return address


def up(say: Callable[[str], object] = lambda _: None, host: str = LOOPBACK) -> str:
    """Start both servers and the worker, deploy the flows of ``prefect.yaml``, and return Prefect's API address.

    With ``PREFECT_API_URL`` set the worker serves that server, and none is started. ``prefect.toml`` then points the
    ``prefect`` commands of this folder at the server, unless there is one of somebody else. The servers listen at
    ``host``, an IPv4 address of this machine. Raises ``UserError``, also where they run and listen elsewhere.
    """
    _check_host(host)
    if hidden := hidden_packages():
        raise UserError(
            f"what Prefect starts in this folder would take {' and '.join(hidden)} for a package of edit-dataset: "
            "give it another name, or start the servers in another folder"
        )
    address = use_prefect_server(say, host, needed=True)
    if prefect_toml.is_ours():
        prefect_toml.point_at(address, is_own(address))
    else:
        file = prefect_toml.POINTER
        say(f"{file} is not ours and stays as it is: it has to name {hide(address)} for `prefect` commands here")
    say(f"prefect: {hide(address.removesuffix('/api'))}")
    say(f"mlflow: {start('mlflow', host, say).url}")
    if host != LOOPBACK:
        say(f"both pages listen at {host} and ask for no password: whoever reaches them can start runs here")
    with _locked():  # two at once would take each other's schedules for the server's
        make_pools()  # a worker says that it is well before it has made its pool
        deploy()  # where this fails, a worker that serves another server is left alone
    start("worker", say=say)
    _automate(say)
    say(f"worker: serves the work pool {POOL!r}; `prefect deployment ls` lists what it can run")
    return address


def _automate(say: Callable[[str], object]) -> None:
    import httpx

    from flows.automations import automate

    try:
        for line in automate():
            say(line)
    except httpx.HTTPError as error:  # a server of others may allow none
        say(f"automations were not made: {str(error).splitlines()[0]}")


def down(say: Callable[[str], object] = lambda _: None) -> None:
    """Stop what ``up`` has started, the worker first; their data stays in ``.prefect`` and ``mlflow.db``."""
    for name in reversed(SERVICES):
        stop(name, say)
    if prefect_toml.is_ours():
        prefect_toml.POINTER.unlink(missing_ok=True)


def is_own(address: str) -> bool:
    """Tell whether an API address is that of the Prefect server that this project, or this process, started last."""
    recorded = _record("prefect")  # until `server stop` removes it
    own = {os.environ.get(CHOSEN, ""), f"{recorded.url}/api" if recorded else ""} - {""}
    return _spelled(address) in map(_spelled, own)


def find(name: str) -> Running | None:
    """Return the service that this project started, if its process is still that one.

    The process works in this folder: a copy of a project has the records of the original's servers, and none of them.
    """
    running = _record(name)
    if running is None:
        return None
    try:
        process = psutil.Process(running.pid)
        same = process.cmdline() == running.command and process.status() != psutil.STATUS_ZOMBIE
        same = same and os.path.samefile(process.cwd(), FOLDER.absolute().parent)
    except (OSError, ValueError, TypeError, psutil.Error):
        return None
    return running if same else None


def _record(name: str) -> Running | None:
    try:
        running = Running(**json.loads((FOLDER / f"{name}.json").read_text()))
        ours = isinstance(running.command, list) and running.pid > 1
        ours = ours and running.command[1:] == _arguments(name, running.port, running.host)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return running if ours else None  # else not what this project starts: it may end no other process


def answers(name: str, running: Running) -> bool:
    """Tell whether a service passes its health check."""
    return answers_at(running.url + SERVICES[name].health)


def start(name: str, host: str = "", say: Callable[[str], object] = lambda _: None) -> Running:
    """Return the running service, or start it in a session of its own; returns when it answers, else ``UserError``.

    ``host`` is the address that it must listen at: the loopback one for a new service if none is given. One that runs
    and doesn't answer, and a worker of another Prefect server than this process uses, are ended and started anew.
    """
    with _locked():
        before = find(name)
        if before is not None and host and before.host != host:
            raise UserError(f"{name} listens at {before.host} already: `edit-dataset server down`, then up again")
        if before is not None and (fault := _fault(name, before)):
            if runs := len(flow_runs(before.pid)):
                raise UserError(
                    f"{name}: {fault}, and runs are at work ({runs}): `edit-dataset server stop {name}` ends them"
                )
            say(f"{name}: {fault}, and is started anew")
            _stop(name, find(name), say)
        for _ in range(ATTEMPTS):
            running = find(name) or _launch(name, host or (before.host if before else LOOPBACK))
            if _wait(name, running, START_TIMEOUT_S):
                if name == "prefect":
                    prefect_toml.follow(f"{running.url}/api")
                return running
            if find(name) is not None:
                break
    raise UserError(f"the {name} server did not start: see {FOLDER / name}.log")


def stop(name: str, say: Callable[[str], object] = lambda _: None) -> Running | None:
    """End the service that this project started, and its children; return it, or None if there was none."""
    with _locked():
        running = find(name)
        _stop(name, running, say)
    return running


def _stop(name: str, running: Running | None, say: Callable[[str], object]) -> None:
    runs = end(running.pid) if running is not None else 0
    (FOLDER / f"{name}.json").unlink(missing_ok=True)  # not before: until then it can be found again
    say(f"{name}: stopped {running.url}" if running else f"{name}: was not running")
    if runs:
        say(f"{name}: {runs} runs at work have ended with it: start them again to go on")


def _fault(name: str, running: Running) -> str:
    """Say why a service that runs can't be used, if so."""
    if running.api not in ("", _api(name)):
        return f"serves {hide(str(running.api))}"
    return "" if _wait(name, running, RECOVERY_S) else "does not answer"


def _api(name: str) -> str:
    """The Prefect server that a service works for, in one spelling; the servers themselves work for none."""
    return _spelled(os.environ.get("PREFECT_API_URL", "")) if name == "worker" else ""


def _spelled(address: str) -> str:
    return hide(address).rstrip("/").replace("://localhost:", f"://{LOOPBACK}:")


def _launch(name: str, host: str) -> Running:
    service = SERVICES[name]
    port = free_port(service.port, _near(host))
    command = [sys.executable, *_arguments(name, port, host)]
    file = FOLDER / f"{name}.log"
    with explain_os_errors(file), file.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(service, port, host),
        )
    await_command_line(process.pid)
    running = Running(process.pid, command, port, host, _api(name))
    try:
        write_bytes(FOLDER / f"{name}.json", json.dumps(asdict(running)).encode())
    except BaseException:  # nobody would find it again
        end(running.pid)
        raise
    return running


def _arguments(name: str, port: int, host: str) -> list[str]:
    return ["-m", *SERVICES[name].command.format(port=port, host=host).split()]


def _check_host(host: str) -> None:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise UserError(
            f"--host {host}: write the IPv4 address of this machine that others use, or {EVERYWHERE}"
        ) from None


def _near(host: str) -> str:
    """The address at which this machine itself finds what listens at ``host``."""
    return LOOPBACK if host == EVERYWHERE else host


def _environment(service: Service, port: int, host: str) -> dict[str, str]:
    address = socket.gethostname() if host == EVERYWHERE else host
    filled = {"port": port, "host": host, "address": address, "folder": os.getcwd()}
    return quiet_environment() | {name: value.format(**filled) for name, value in service.environment.items()}


def _wait(name: str, running: Running, patience_s: float) -> bool:
    """Wait until the service answers; False if it ends instead, for instance because its port was taken meanwhile."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and find(name) is not None:
        if listens(running.pid, running.port) and answers(name, running):
            return True
        time.sleep(0.2)
    return False


def free_port(first: int, host: str = LOOPBACK) -> int:
    """Return the first port from here on that nothing listens at, at an address of this machine; ``UserError``."""
    ports = range(first, min(first + 200, 65536))
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) != 0:
                return port
    raise UserError(f"no free port between {first} and {ports[-1]}: end what listens there, or name another port")


@contextmanager
def _locked() -> Iterator[None]:
    try:
        FOLDER.mkdir(exist_ok=True)
        lock = (FOLDER / "lock").open("a")
    except OSError as error:
        raise UserError(
            f"can't keep servers in {FOLDER.absolute()} ({error.strerror}): go to a project's folder that you may "
            "write to, or name a Prefect server that runs with PREFECT_API_URL"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
