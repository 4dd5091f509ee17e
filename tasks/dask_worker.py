"""What the processes of a run's own Dask cluster load before they work: each takes its number, and with it its card."""

from typing import Any

from gan_core.device import number_worker


def dask_setup(worker: Any) -> None:
    """Take the number by which the cluster names this worker; Dask calls this as the worker begins."""
    if str(worker.name).isdigit():
        number_worker(int(worker.name))
