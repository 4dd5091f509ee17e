"""Processes that lead sessions of their own: whether they serve a port and answer, and how they are ended."""

import os
import signal
import time
import urllib.request
from contextlib import suppress

import psutil

STOP_TIMEOUT_S = 15.0
"""How long what is to end may take: a Prefect worker kills a cancelled run after 30 s."""
KILL_TIMEOUT_S = 3.0  # what was killed is gone, and its ports are free
REPORT_S = 3.0
"""How long a Prefect worker takes to tell the server how a flow run has ended."""
ENGINES = {"prefect.engine", "prefect.runner._workspace_supervisor"}
"""What Prefect's worker starts for each flow run: the second prepares one, and becomes the first."""
ROUNDS = 3
"""How often flow runs are asked to end: a worker takes up new ones until it exits."""


def await_command_line(pid: int) -> None:
    """Linux shows an empty one for a moment after a start, so that the process seems to be somebody else's."""
    with suppress(psutil.Error):  # it has ended already
        while not psutil.Process(pid).cmdline():
            time.sleep(0.001)


def listens(pid: int, port: int) -> bool:
    """Whether the port is served by this process or its children, and not by somebody else's server."""
    with suppress(psutil.Error):
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for process in _family(pid)
            for connection in process.net_connections("tcp4")
        )
    return False


def answers_at(url: str) -> bool:
    """Tell whether a page on this machine is there."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def flow_runs(pid: int) -> list[psutil.Process]:
    """Return the processes of the flow runs that a Prefect worker has at work."""
    return [process for process in _family(pid) if ENGINES & set(_command_line(process))]


def end(pid: int) -> int:
    """End a process that leads a session, and its children; return how many of them were flow runs.

    Flow runs lead sessions of their own. They end first: their worker has to live to tell Prefect's server of it. What
    has ended already is left alone.
    """
    ended = 0
    for _ in range(ROUNDS):
        if not (runs := flow_runs(pid)):
            break
        _end_runs(runs)
        ended += len(runs)
    family = _family(pid)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
    _finish(family)
    return ended


def _end_runs(runs: list[psutil.Process]) -> None:
    started = [process for run in runs for process in _family(run.pid)]
    for run in runs:
        with suppress(psutil.Error):  # it has ended meanwhile
            run.terminate()
    _finish(started)
    time.sleep(REPORT_S)


def _finish(asked: list[psutil.Process]) -> None:
    """Wait for processes that were asked to end; kill those that don't, with what they have started since."""
    alive = _await_ends(asked, STOP_TIMEOUT_S)
    left = {process for each in alive for process in _family(each.pid)}
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    _await_ends(list(left), KILL_TIMEOUT_S)


def _await_ends(processes: list[psutil.Process], patience_s: float) -> list[psutil.Process]:
    """Wait for processes to end, and return those that haven't; one that nobody reaps has ended, too."""
    deadline = time.monotonic() + patience_s
    while (alive := [each for each in processes if is_alive(each)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    psutil.wait_procs(processes, timeout=0)  # reaps those that this process has started
    return alive


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process is at work: one that has ended may stay in the list until it is reaped."""
    with suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _command_line(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return list(process.cmdline())
    return []


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        leader = psutil.Process(pid)
        return [leader, *leader.children(recursive=True)]
    return []
