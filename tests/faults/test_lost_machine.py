"""Server, worker and run killed together, as when a machine loses its power: the next night is not shut out by it."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from flows import servers

NAP = """
import time
from pathlib import Path
from prefect import flow

while Path("loading").exists():
    time.sleep(0.1)


@flow
def nap() -> None:
    pass
"""
DEPLOYMENT = """
name: nights
pull:
  - flows.project.use_project_folder: {}
deployments:
  - name: nap
    entrypoint: nap.py:nap
    concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW}
    work_pool: {name: local}
"""
LEASE_S = 30
PATIENCE_S = 500.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose deployment, like the nightly one, cancels a new run while one goes on; stopped in the end."""
    (tmp_path / "nap.py").write_text(NAP)
    (tmp_path / "prefect.yaml").write_text(DEPLOYMENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(servers, "FOLDER", tmp_path / ".servers")
    for name, port in {"prefect": 7700, "mlflow": 7800, "worker": 7900}.items():
        monkeypatch.setitem(servers.SERVICES, name, replace(servers.SERVICES[name], port=port))
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        for name in ("PREFECT_API_URL", "PREFECT_HOME"):
            os.environ.pop(name, None)
        os.environ["PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION"] = str(LEASE_S)
        servers.up()
        yield tmp_path
        servers.down()


def start() -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deployment", "run", "nap/nap"]
    subprocess.run(command, check=True, capture_output=True)


def states() -> list[str]:
    """Return the states of all runs."""
    address, asked = f"{os.environ['PREFECT_API_URL']}/flow_runs/filter", {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(address, b"{}", asked), timeout=30) as reply:
        return [run["state_type"] for run in json.loads(reply.read())]


def wait_for(state: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while state not in states():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def lose_power(folder: Path) -> None:
    """Kill every process that works in the folder, but this one."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.cwd() == str(folder):
                process.kill()
        except psutil.Error:
            continue


def test_a_night_that_was_lost_with_its_machine_does_not_shut_out_the_next(machine: Path) -> None:
    Path("loading").touch()  # a run that has begun keeps its slot for five minutes more, one that loads for LEASE_S
    start()
    wait_for("PENDING")
    lose_power(machine)
    Path("loading").unlink()
    os.environ.pop("PREFECT_API_URL")
    servers.up()
    deadline = time.monotonic() + PATIENCE_S
    while "COMPLETED" not in states():
        assert time.monotonic() < deadline
        start()  # cancelled while the night before may still go on elsewhere
        time.sleep(5)
