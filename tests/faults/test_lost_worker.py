"""Two workers that share the storage and the server's address; one is killed in the middle of a shard."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows import batches
from flows.edit_dataset import edit_dataset
from gan_core.storage.receipts import Receipt
from gan_core.storage.shards import list_shards
from gan_core.storage.urls import base_name, exists, open_fs, read_bytes
from tests.conftest import hashes

ROOT = Path(__file__).parents[2]
SLOW = {"edits": [], "measure.metrics": ["mse"], "tune.steps": 20, "run.workers": 1}
SPREAD = {"run.deployment": "edit-shards/shards", "run.shards_per_batch": 1}
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker and the runs that it has started."""
    for member in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        member.send_signal(signal.SIGKILL)
    process.wait()


def tuning(worker: subprocess.Popen[bytes], folder: Path) -> bool:
    """Tell whether a run of this worker is writing a shard into ``folder``: a lock there names its process."""
    owners = {str(child.pid) for child in psutil.Process(worker.pid).children(recursive=True)}
    locks = [lock.read_text() for lock in folder.glob(".*.lock")]
    return any(owner in text.split() for text in locks for owner in owners)


@pytest.fixture
def workers(prefect_server: str, project: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Two workers, each with a home of its own, as on two hosts."""
    for name in ("flows", "tasks", "gan_core", "prefect.yaml"):
        (project / name).symlink_to(ROOT / name)
    more = {"PREFECT_API_URL": prefect_server, "PYTHONPATH": str(ROOT), "EDIT_DATASET_FOLDER": str(project)}
    environment = os.environ | more | {"OMP_NUM_THREADS": "1", "PREFECT_WORKER_QUERY_SECONDS": "1"}
    subprocess.run([*PREFECT, "work-pool", "create", "shards", "--type", "process"], env=environment, check=True)
    subprocess.run([*PREFECT, "deploy", "--name", "shards"], env=environment, check=True)
    started = []
    for host in ("one", "two"):
        command = [*PREFECT, "worker", "start", "--pool", "shards", "--name", host, "--limit", "1"]
        own = environment | {"PREFECT_HOME": str(project / host)}
        with (project / f"{host}.log").open("wb") as log:
            started.append(subprocess.Popen(command, env=own, stdout=log, stderr=log, start_new_session=True))
    yield started
    for process in started:
        if process.poll() is None:
            kill(process)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_ends_whole_when_one_of_two_workers_is_killed(
    workers: list[subprocess.Popen[bytes]],
    prefect_server: str,
    project: Path,
    tiny_dataset: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "SILENCE_S", 30.0)

    def kill_in_the_middle() -> None:
        while not tuning(workers[0], project / "spread/tune"):
            time.sleep(0.02)
        kill(workers[0])

    killer = threading.Thread(target=kill_in_the_middle, daemon=True)
    with temporary_settings({PREFECT_API_URL: prefect_server, PREFECT_HOME: project / "home"}):
        edit_dataset(tiny_dataset, "alone", overrides=SLOW)
        killer.start()
        edit_dataset(tiny_dataset, "spread", overrides=SLOW | SPREAD)
    assert not killer.is_alive() and workers[0].returncode == -signal.SIGKILL
    assert hashes("spread") == hashes("alone") and len(hashes("spread")) == 15
    assert Path("spread/report.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_workers_that_share_only_a_bucket_end_a_run_whole_when_one_is_killed(
    bucket: str,
    workers: list[subprocess.Popen[bytes]],
    prefect_server: str,
    project: Path,
    tiny_dataset: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(batches, "SILENCE_S", 30.0)
    output = f"{bucket}/runs/spread"
    fs, _ = open_fs(bucket)
    for shard in list_shards(tiny_dataset):
        fs.put_file(shard, f"{bucket}/in/{base_name(shard)}")

    def kill_in_the_middle() -> None:
        while "Task run 'align" not in (project / "one.log").read_text():
            time.sleep(0.1)
        kill(workers[0])

    killer = threading.Thread(target=kill_in_the_middle, daemon=True)
    with temporary_settings({PREFECT_API_URL: prefect_server, PREFECT_HOME: project / "home"}):
        edit_dataset(tiny_dataset, "alone", overrides=SLOW)
        killer.start()
        edit_dataset(f"{bucket}/in", output, overrides=SLOW | SPREAD)
    assert not killer.is_alive() and workers[0].returncode == -signal.SIGKILL and "handed out again" in caplog.text
    made = {name: Receipt.model_validate_json(read_bytes(f"{output}/{name}")).output_sha256 for name in hashes("alone")}
    assert made == hashes("alone") and exists(f"{output}/report.html")
