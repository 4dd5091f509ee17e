"""A slot of one of Prefect's global concurrency limits, held while a task works.

Prefect's own ``concurrency`` waits long on a busy machine. A request that meets a lock of the server's SQLite database
is answered with 503 and tried again after 2, 4, 8, 16 and 32 s, and one that is refused sleeps up to 39 s, even where
the slot is free sooner. Here a task asks again after a second at most.
"""

import contextvars
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client

from gan_core.errors import ParamsError
from gan_core.stopping import check_stop

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
# The slot of a killed task is free again after this; a living one loses its own when four renewals in a row fail.
LEASE_S = 300.0
RENEW_S = LEASE_S / 4
# A server with PostgreSQL, or behind a proxy, means it when it says 503 for so long.
BUSY_S = 60.0


def slot_name(limit: str, device: str) -> str:
    """Return the limit's name with this host and the card for ``{card}``: ``gpu-{card}`` is ``gpu-host7-cuda-0``."""
    return limit.replace("{card}", f"{socket.gethostname()}-{device.replace(':', '-')}")


@contextmanager
def concurrency_slot(limit: str) -> Iterator[None]:
    """Hold a slot of the limit of that name, waiting for one as long as it takes; an empty name needs none.

    Raises ``ParamsError`` where there is no such limit, and ``Stopped`` if the work is asked to stop meanwhile.
    """
    if not limit:
        yield
        return
    with get_client(sync_client=True, httpx_settings={"event_hooks": {"response": [_fail_at_once]}}) as client:
        lease = _wait_for_slot(client, limit)
    released = threading.Event()
    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(_renew, lease, released), name=f"renew {lease}", daemon=True).start()
    try:
        yield
    finally:
        released.set()
        _release(lease)


def _fail_at_once(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        response.raise_for_status()


def _wait_for_slot(client: SyncPrefectClient, limit: str) -> UUID:
    """Ask until a slot is given, and return its lease; the pause between doubles from 0.1 to 1 s, less up to half."""
    pause, heard = FIRST_PAUSE_S, time.monotonic()
    while True:
        check_stop()
        try:
            return _ask(client, limit)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.LOCKED:
                heard = time.monotonic()
            elif error.response.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() - heard > BUSY_S:
                raise
        time.sleep(random.uniform(0.5, 1.0) * pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _ask(client: SyncPrefectClient, limit: str) -> UUID:
    reply = client.increment_concurrency_slots_with_lease([limit], 1, "concurrency", LEASE_S).json()
    if not reply["limits"]:
        raise ParamsError(
            f"run.concurrency_limit: the Prefect server has no limit {limit!r}: `prefect gcl create {limit} --limit 1`"
        )
    return UUID(reply["lease_id"])


def _renew(lease: UUID, released: threading.Event) -> None:
    while not released.wait(RENEW_S):
        try:
            with get_client(sync_client=True) as client:
                client.renew_concurrency_lease(lease, LEASE_S)
        except httpx.HTTPError as error:
            if not released.is_set():
                get_run_logger().warning(f"the slot was not renewed; another task may get it: {error}")


def _release(lease: UUID) -> None:
    try:
        with get_client(sync_client=True) as client:
            client.release_concurrency_slots_with_lease(lease)
    except httpx.HTTPError as error:
        get_run_logger().warning(f"the slot was not released; it is free in {LEASE_S:g} s: {error}")
