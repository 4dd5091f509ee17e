"""What Dask's processes do beside their tasks: take their numbers, and finish the task in work before they exit."""

import asyncio
from collections.abc import Collection
from typing import Any

from gan_core.device import number_worker

LOOK_EVERY_S = 0.05


def dask_setup(worker: Any) -> None:
    """Take the number by which the cluster names this worker, and with it its card.

    Dask calls this as a worker of a run's own cluster begins.
    """
    if str(worker.name).isdigit():
        number_worker(int(worker.name))


async def end_tasks(keys: Collection[str], dask_worker: Any) -> None:
    """Wait until none of these tasks is at work in this process; Dask gives the worker."""
    while not set(keys).isdisjoint(dask_worker.active_threads.values()):
        await asyncio.sleep(LOOK_EVERY_S)
