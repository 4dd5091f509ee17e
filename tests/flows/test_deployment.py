"""``prefect deployment run edit-dataset/local`` for real: a server, a work pool, a worker, and what it made."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gan_core.data.receipts import Receipt

ROOT = Path(__file__).parents[2]


@pytest.fixture
def prefect(prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The Prefect command line, pointed at the test server."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "1")
    monkeypatch.setenv("PWD", str(ROOT))  # as a shell in that folder has it
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("EDIT_DATASET_HOME", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return [sys.executable, "-m", "prefect", "--no-prompt"]


@pytest.fixture
def worker(prefect: list[str], project: Path) -> Iterator[None]:
    """A work pool and a worker that serves it."""
    subprocess.run([*prefect, "work-pool", "create", "local", "--type", "process"], check=True)
    with (project / "worker.log").open("wb") as log:
        command = [*prefect, "worker", "start", "--pool", "local"]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    yield
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGTERM)
    for left in psutil.wait_procs(family, timeout=20)[1]:
        left.kill()


@pytest.mark.timeout(900)
def test_a_worker_runs_the_deployment(prefect: list[str], worker: None, project: Path, tiny_dataset: str) -> None:
    subprocess.run([*prefect, "deploy", "--name", "local"], cwd=ROOT, check=True)
    output = project / "out"
    parameters = {"source": tiny_dataset, "output": output, "params_file": project / "params.yaml"}
    given = [part for name, value in parameters.items() for part in ("-p", f"{name}={value}")]
    quick = ["-p", 'overrides={"tune.enabled": false}']
    command = [*prefect, "deployment", "run", "edit-dataset/local", "--watch", *given, *quick]
    reply = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=800)

    assert reply.returncode == 0, reply.stdout + reply.stderr + (project / "worker.log").read_text()
    assert "edit-dataset" in reply.stdout
    receipts = [Receipt.model_validate_json(path.read_text()) for path in output.glob("*/*.receipt.json")]
    assert sorted(receipt.stage for receipt in receipts) == sorted(["align", "encode", "edit", "measure"] * 3)
    assert {sum(receipt.rows.values()) for receipt in receipts} == {2, 3}
    assert (output / "report.html").is_file() and (output / "tracking.json").is_file()
