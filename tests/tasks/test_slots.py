"""Waiting for a slot: what the server may answer, and how long the pauses are. A real server: tests/flows."""

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient

from gan_core.errors import ParamsError
from tasks import slots
from tasks.slots import BUSY_S, concurrency_slot

LEASE = str(UUID(int=7))
GIVEN, TAKEN, BUSY = 200, 423, 503


class Server:
    """Answers requests for a slot with ``codes``, one after another; time passes only in pauses."""

    def __init__(self) -> None:
        self.codes: Iterator[int] = iter(())
        self.limits: list[dict[str, Any]] = [{"id": LEASE, "name": "gpu", "limit": 1}]
        self.now = 0.0
        self.pauses: list[float] = []
        self.asked: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        if name == "csrf-token":
            return httpx.Response(422, json={"detail": "CSRF protection is disabled."}, request=request)
        self.asked.append(name)
        code = next(self.codes) if name == "increment-with-lease" else 204
        return httpx.Response(code, json={"lease_id": LEASE, "limits": self.limits}, request=request)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()

    def client(sync_client: bool, httpx_settings: dict[str, Any] | None = None) -> SyncPrefectClient:
        transport = {"transport": httpx.MockTransport(server.answer)}
        return SyncPrefectClient("http://server/api", httpx_settings=(httpx_settings or {}) | transport)

    monkeypatch.setattr(slots, "get_client", client)
    monkeypatch.setattr(slots.time, "sleep", server.sleep)
    monkeypatch.setattr(slots.time, "monotonic", lambda: server.now)
    return server


@pytest.mark.parametrize("code", [TAKEN, BUSY])
def test_a_task_that_is_refused_asks_again_within_a_second(server: Server, code: int) -> None:
    server.codes = iter([code] * 12 + [GIVEN])
    with concurrency_slot("gpu"):
        assert server.asked == ["increment-with-lease"] * 13
        assert len(server.pauses) == 12 and 0.05 <= server.pauses[0] <= 0.1 and 0.5 <= max(server.pauses) <= 1
    assert server.asked[13:] == ["decrement-with-lease"]


def test_a_taken_slot_is_waited_for_as_long_as_it_takes_and_a_server_that_is_down_is_not(server: Server) -> None:
    server.codes = iter([TAKEN] * 500 + [GIVEN])
    with concurrency_slot("gpu"):
        assert server.now > 3 * BUSY_S
    server.codes = iter([BUSY] * 500)
    since = server.now
    with pytest.raises(httpx.HTTPStatusError, match="503"), concurrency_slot("gpu"):
        pass
    assert BUSY_S < server.now - since < BUSY_S + 2


def test_a_slot_is_released_after_a_failure_and_none_is_asked_for_without_a_name(server: Server) -> None:
    server.codes = iter([GIVEN])
    with pytest.raises(ValueError, match="spoiled"), concurrency_slot("gpu"):
        raise ValueError("spoiled")
    assert server.asked == ["increment-with-lease", "decrement-with-lease"]
    with concurrency_slot(""):
        pass
    assert len(server.asked) == 2


def test_a_limit_that_is_not_there_is_named(server: Server) -> None:
    server.codes, server.limits = iter([GIVEN]), []
    with pytest.raises(ParamsError, match="no limit 'gpu': `prefect gcl create gpu"), concurrency_slot("gpu"):
        pass


def test_a_lease_is_renewed_until_it_is_released(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "RENEW_S", 0.001)
    server.codes = iter([GIVEN])
    with concurrency_slot("gpu"):
        while server.asked.count("renew") < 3:
            threading.Event().wait(0.01)
    assert server.asked.count("decrement-with-lease") == 1
    for thread in threading.enumerate():
        if thread.name == f"renew {LEASE}":
            thread.join()
