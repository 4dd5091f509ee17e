"""The load of the machine while a run goes on: what MLflow shows as system metrics."""

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple, Protocol

from gan_core.background import in_background
from gan_core.params import TrackParams

ASKED = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
INTERVAL_S = "10"


class Monitor(Protocol):
    """What MLflow's monitors of processor, memory, disk, network and GPU have in common."""

    def collect_metrics(self) -> None:
        """Take one sample."""

    def aggregate_metrics(self) -> dict[str, float]:
        """Return the means of the samples since the last clearing."""

    def clear_metrics(self) -> None:
        """Delete the samples."""


class Sample(NamedTuple):
    """The load at one time, in ms since 1970."""

    when: int
    values: dict[str, float]


def is_wanted(params: TrackParams) -> bool:
    """Tell whether ``track.system_metrics`` or, where that is null, MLflow's own variable asks for system metrics."""
    asked = os.environ.get(ASKED, "").lower() in ("true", "1")
    return asked if params.system_metrics is None else params.system_metrics


@contextmanager
def sampling(monitors: Sequence[Monitor]) -> Iterator[list[Sample]]:
    """Gather samples until the block ends, as often as MLflow's variable says; failures don't stop the run."""
    samples: list[Sample] = []

    def sample(ended: threading.Event) -> None:
        try:
            every_s = float(os.environ.get(INTERVAL) or INTERVAL_S)
            _look(monitors)  # the load is measured from one look to the next
            while not ended.wait(every_s):
                samples.append(_look(monitors))
        except Exception as error:
            logging.getLogger(__name__).warning("system metrics stopped: %s", error)

    with in_background(sample, "system metrics") if monitors else nullcontext():
        yield samples


def _look(monitors: Sequence[Monitor]) -> Sample:
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        values |= monitor.aggregate_metrics()
        monitor.clear_metrics()
    return Sample(round(time.time() * 1000), values)
