"""Processes that lead sessions of their own: whether they serve a port and answer, and how they are ended."""

import os
import signal
import time
import urllib.request
from contextlib import suppress

import psutil

STOP_TIMEOUT_S = 15.0
"""How long what is to end may take: a Prefect worker kills a cancelled run after 30 s."""
ENGINE = "prefect.engine"  # what Prefect's worker starts for each flow run


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


def end(pid: int) -> int:
    """End a process that leads a session, and its children; return how many of them were flow runs."""
    processes = _family(pid)
    runs = 0
    with suppress(psutil.Error):  # one has ended meanwhile
        runs = sum(ENGINE in process.cmdline() for process in processes)
    os.killpg(pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT_S)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=STOP_TIMEOUT_S)  # their ports are free then
    return runs


def _family(pid: int) -> list[psutil.Process]:
    leader = psutil.Process(pid)
    return [leader, *leader.children(recursive=True)]
