"""Ctrl-C in a command that runs a flow: the first lets it end as cancelled, the second ends the process."""

import contextvars
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import CancelledRun
from prefect.runtime import flow_run
from prefect.states import Cancelled

from gan_core.stopping import STOPPED, Stopped, stoppable

PATIENCE_S = 2.0
"""How long Prefect's server may take to be told that a run is stopped at once."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Call a flow inside: Ctrl-C stops it between two batches, and then ``Stopped`` is raised."""
    try:
        with stoppable(_stop_at_once):
            yield
    except CancelledRun as cancelled:
        raise Stopped(str(cancelled)) from None


def _stop_at_once() -> None:
    """Tell Prefect that the flow run of this process is cancelled, if its server answers soon."""
    if flow_run.id is not None:
        context = contextvars.copy_context()
        telling = threading.Thread(target=context.run, args=(_tell, UUID(flow_run.id)), daemon=True)
        telling.start()
        telling.join(PATIENCE_S)
    with suppress(Exception):  # what is written at this moment can't be finished
        sys.stdout.flush()


def _tell(run_id: UUID) -> None:
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, Cancelled(message=STOPPED), force=True)
