"""A process of a Dask cluster killed in the middle of a shard: the run ends or is resumed with the same bytes."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows.edit_dataset import edit_dataset
from tests.faults.test_kill_flow import hashes

ROOT = Path(__file__).parents[2]
SLOW: dict[str, Any] = {"edits": [], "measure.metrics": ["mse"], "tune.steps": 20, "run.workers": 2}


def tuning(folder: Path) -> int | None:
    """Return the process that is writing a shard into ``folder``: the lock there names it."""
    for lock in folder.glob(".*.lock"):
        for word in lock.read_text().split():
            if word.isdigit() and int(word) != os.getpid() and Path(f"/proc/{word}").exists():
                return int(word)
    return None


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_lost_process_of_the_cluster_loses_no_row(
    project: Path, tiny_dataset: str, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("prefect_dask", reason="Dask is an extra: pip install -e '.[dask]'")
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    killed: list[int] = []

    def kill_in_the_middle() -> None:
        while not killed:
            time.sleep(0.02)
            if (found := tuning(project / "spread/tune")) is not None:
                os.kill(found, signal.SIGKILL)
                killed.append(found)

    killer = threading.Thread(target=kill_in_the_middle, daemon=True)
    with temporary_settings({PREFECT_API_URL: prefect_server, PREFECT_HOME: project / "home"}):
        edit_dataset(tiny_dataset, "alone", overrides=SLOW)
        killer.start()
        edit_dataset(tiny_dataset, "spread", overrides=SLOW | {"run.runner": "dask"})
    assert killed and hashes("spread") == hashes("alone")
