"""A global concurrency limit of Prefect holds tasks back, across threads and runs."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

from flows.edit_dataset import edit_dataset
from gan_core.runs.run_stage import run_stage
from gan_core.storage.receipts import Receipt
from tasks import shards, slots
from tasks.slots import concurrency_slot

pytestmark = pytest.mark.usefixtures("on_server")
ALIGN_ONLY = {"tune.enabled": False, "edits": [], "measure.metrics": ["mse"], "run.workers": 3}


@pytest.fixture
def client(project: Path, on_server: str) -> Iterator[SyncPrefectClient]:
    """A client of the server, which has a limit of one slot that is named after the project."""
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=project.name, limit=1))
        yield client


@pytest.mark.usefixtures("client")
def test_as_many_shards_at_a_time_as_the_limit_has_slots(
    project: Path, tiny_dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, most, lock = 0, 0, threading.Lock()

    def watched(*given: Any) -> Receipt:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.05)
        try:
            return run_stage(*given)
        finally:
            with lock:
                at_work -= 1

    monkeypatch.setattr(shards, "run_stage", watched)
    edit_dataset(tiny_dataset, "out", overrides=ALIGN_ONLY | {"run.concurrency_limit": project.name})
    assert most == 1


def test_a_task_waits_in_short_pauses_however_often_it_is_refused(
    project: Path, client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    with ExitStack() as held:
        held.enter_context(concurrency_slot(project.name))

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 8:
                held.close()

        monkeypatch.setattr(slots.time, "sleep", pause)
        with concurrency_slot(project.name):
            assert client.read_global_concurrency_limit_by_name(project.name).active_slots == 1
    assert len(pauses) >= 8 and 0 < max(pauses) <= 1
    assert client.read_global_concurrency_limit_by_name(project.name).active_slots == 0


def test_a_limit_that_is_not_there_is_no_free_pass(project: Path, tiny_dataset: str) -> None:
    with pytest.raises(Exception, match="no-such-limit"):
        edit_dataset(tiny_dataset, "out", overrides=ALIGN_ONLY | {"run.concurrency_limit": "no-such-limit"})
