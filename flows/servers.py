"""The Prefect server, worker and MLflow server of a project folder: start, find again, and stop exactly those."""

import fcntl
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from flows.project import FOLDER_VARIABLE, hidden_packages
from flows.proxies import direct_environment, unusable_proxies
from gan_core.errors import UserError
from gan_core.secrets import hide
from tasks.tracking.address import DEFAULT_URI, OWN_SERVER, STORE
from tasks.tracking.artifacts import FOLDER as ARTIFACTS
from tasks.tracking.artifacts import SERVED

FOLDER = Path(".servers")
POINTER = Path("prefect.toml")
WRITTEN_BY = "# Written by `edit-dataset server up`"
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 15.0
ENGINE = "prefect.engine"  # what Prefect's worker starts for each flow run
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


POOL, SHARDS_POOL = "local", "shards"
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

    ``host`` is the address that it listens at.
    """

    pid: int
    command: list[str]
    port: int
    host: str = LOOPBACK

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
        # In memory, as is the default, a crash of server and run together holds the slot of a limit for ever.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        STORE: DEFAULT_URI,
        "DVC_NO_ANALYTICS": "1",
    }
    mlflow = find("mlflow")
    own = {OWN_SERVER: mlflow.url if mlflow is not None and answers("mlflow", mlflow) else ""}
    return quiet | os.environ | own | direct_environment(os.environ)


def use_prefect_server(say: Callable[[str], object] = lambda _: None, host: str = "") -> str:
    """Point this process at ``PREFECT_API_URL`` if it is set, else at the project's server, started if need be."""
    drop_copied_address(say)
    for name in unusable_proxies(os.environ):
        say(f"{name} is not used: Prefect's client can't read it; for SOCKS, `pip install 'httpx[socks]'`")
    os.environ |= quiet_environment()
    if "PREFECT_API_URL" not in os.environ:
        if find("prefect") is None:
            say("starting a Prefect server for this project (about 10 s)")
        os.environ["PREFECT_API_URL"] = start("prefect", host).url + "/api"
    return os.environ["PREFECT_API_URL"]


def prefect_address() -> str:
    """Return the API address of the server that runs are shown on, or an empty string if none runs."""
    running = find("prefect")
    return os.environ.get("PREFECT_API_URL") or (f"{running.url}/api" if running else "")


def connect(say: Callable[[str], object]) -> str:
    """Do the same as ``use_prefect_server``, and print the address of the server's page; return its API address."""
    address = use_prefect_server(say)
    say(f"Prefect: {hide(address.removesuffix('/api'))} (`edit-dataset server stop` ends a local one)")
    return address


def is_lost(error: BaseException | None) -> bool:
    """Tell whether an error, or what caused it, is that Prefect's server doesn't answer or has failed."""
    import httpx

    while error is not None:
        if isinstance(error, httpx.TransportError):
            return True
        if isinstance(error, httpx.HTTPStatusError) and error.response.is_server_error:
            return True
        error = error.__cause__ or error.__context__
    return False


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
    address = use_prefect_server(say, host)
    if _is_ours(POINTER):
        POINTER.write_text(f'{WRITTEN_BY} in {os.getcwd()}, removed by `server down`.\n[api]\nurl = "{address}"\n')
    else:
        say(f"{POINTER} is not ours and stays as it is: it has to name {hide(address)} for `prefect` commands here")
    say(f"prefect: {hide(address.removesuffix('/api'))}")
    say(f"mlflow: {start('mlflow', host).url}")
    if host != LOOPBACK:
        say(f"both pages listen at {host} and ask for no password: whoever reaches them can start runs here")
    for pool in (POOL, SHARDS_POOL):  # a worker says that it is well before it has made its pool
        _prefect("work-pool", "create", pool, "--type", "process")  # fails where it is there already, and may
    start("worker")
    reply = _prefect("deploy", "--all")
    if reply.returncode:
        raise UserError(f"the flows could not be deployed: {' '.join((reply.stdout + reply.stderr).split())[-400:]}")
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


def _prefect(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def down(say: Callable[[str], object] = lambda _: None) -> None:
    """Stop what ``up`` has started, the worker first; their data stays in ``.prefect`` and ``mlflow.db``."""
    for name in reversed(SERVICES):
        stop(name, say)
    if _is_ours(POINTER):
        POINTER.unlink(missing_ok=True)


def _is_ours(file: Path) -> bool:
    return not file.exists() or file.read_text(errors="replace").startswith(WRITTEN_BY)


def drop_copied_address(say: Callable[[str], object] = lambda _: None) -> None:
    """Remove the ``prefect.toml`` that ``up`` wrote in another folder, if this one was copied from there."""
    with suppress(FileNotFoundError):
        first = POINTER.read_text(errors="replace").partition("\n")[0]
        if first.startswith(f"{WRITTEN_BY} in ") and f" in {os.getcwd()}, " not in first:
            POINTER.unlink()
            say(f"{POINTER} was removed: it named the server of the folder that this one was copied from")


def find(name: str) -> Running | None:
    """Return the service that this project started, if its process is still that one.

    The process works in this folder: a copy of a project has the records of the original's servers, and none of them.
    """
    try:
        running = Running(**json.loads((FOLDER / f"{name}.json").read_text()))
        if (
            not isinstance(running.command, list)
            or running.command[1:] != _arguments(name, running.port, running.host)
            or running.pid <= 1
        ):
            return None  # not what this project starts: nothing in this file may end another process
        process = psutil.Process(running.pid)
        same = process.cmdline() == running.command and process.status() != psutil.STATUS_ZOMBIE
        same = same and os.path.samefile(process.cwd(), FOLDER.absolute().parent)
    except (OSError, ValueError, TypeError, RecursionError, psutil.Error):
        return None
    return running if same else None


def answers(name: str, running: Running) -> bool:
    """Tell whether a service passes its health check."""
    return _answers(running.url + SERVICES[name].health)


def start(name: str, host: str = "") -> Running:
    """Return the running service, or start it in a session of its own; returns when it answers, else ``UserError``.

    ``host`` is the address that it must listen at: the loopback one for a new service if none is given.
    """
    with _locked():
        for _ in range(ATTEMPTS):
            running = find(name) or _launch(name, host or LOOPBACK)
            if host and running.host != host:
                raise UserError(f"{name} listens at {running.host} already: `edit-dataset server down`, then up again")
            if _wait(name, running):
                return running
            if find(name) is not None:
                break
    raise UserError(f"the {name} server did not start: see {FOLDER / name}.log")


def stop(name: str, say: Callable[[str], object] = lambda _: None) -> Running | None:
    """End the service that this project started, and its children; return it, or None if there was none."""
    with _locked():
        running = find(name)
        (FOLDER / f"{name}.json").unlink(missing_ok=True)
        runs = _end(running) if running is not None else 0
    say(f"{name}: stopped {running.url}" if running else f"{name}: was not running")
    if runs:
        say(f"{name}: {runs} runs at work have ended with it: start them again to go on")
    return running


def _launch(name: str, host: str) -> Running:
    service = SERVICES[name]
    port = free_port(service.port, _near(host))
    command = [sys.executable, *_arguments(name, port, host)]
    with (FOLDER / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(service, port, host),
        )
    _await_command_line(process.pid)
    running = Running(process.pid, command, port, host)
    (FOLDER / f"{name}.json").write_text(json.dumps(asdict(running)))
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


def _await_command_line(pid: int) -> None:
    """Linux shows an empty one for a moment after a start; ``find`` would take the process for somebody else's."""
    with suppress(psutil.Error):  # it has ended already
        while not psutil.Process(pid).cmdline():
            time.sleep(0.001)


def _environment(service: Service, port: int, host: str) -> dict[str, str]:
    address = socket.gethostname() if host == EVERYWHERE else host
    filled = {"port": port, "host": host, "address": address, "folder": os.getcwd()}
    return quiet_environment() | {name: value.format(**filled) for name, value in service.environment.items()}


def _wait(name: str, running: Running) -> bool:
    """Wait until the service answers; False if it ends instead, for instance because its port was taken meanwhile."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and find(name) is not None:
        if _listens(running) and answers(name, running):
            return True
        time.sleep(0.2)
    return False


def _listens(running: Running) -> bool:
    """Whether the port is served by this process or its children, and not by somebody else's server."""
    with suppress(psutil.Error):
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == running.port
            for process in _family(running)
            for connection in process.net_connections("tcp4")
        )
    return False


def _family(running: Running) -> list[psutil.Process]:
    leader = psutil.Process(running.pid)
    return [leader, *leader.children(recursive=True)]


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _end(running: Running) -> int:
    """End a service's processes, and return how many of them were flow runs."""
    processes = _family(running)
    runs = 0
    with suppress(psutil.Error):  # one has ended meanwhile
        runs = sum(ENGINE in process.cmdline() for process in processes)
    os.killpg(running.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT_S)
    for process in alive:
        process.kill()
    return runs


def free_port(first: int, host: str = LOOPBACK) -> int:
    """Return the first port from here on that nothing listens at, at an address of this machine; ``UserError``."""
    for port in range(first, first + 200):
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) != 0:
                return port
    raise UserError(f"no free port between {first} and {first + 199}")


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
