"""How fast the encoder is on a machine that does nothing else: judged by repeats that were not disturbed."""

import time
from dataclasses import dataclass

import numpy as np

from gan_core.device import compute_on
from gan_core.metrics.noise import bootstrap_error
from gan_core.rows import Row
from gan_core.runs.stage import Stage

REPEATS = 24
FEWEST = 8
"""Repeats that a quartile needs to be steady."""
SHARE = 0.9
"""A repeat counts if the process had the processor for at least this share of its time."""


@dataclass(frozen=True)
class Speed:
    """Images a second and the standard error; ``busy`` says why there is none."""

    value: float = 0.0
    noise: float = 0.0
    busy: str = ""


def time_stage(stage: Stage, rows: list[Row]) -> Speed:
    """Process ``rows`` again and again after a warm-up; the speed is that of the lower quartile of the idle times.

    A time is idle if the processor's time is nearly the clock's: a process that waits for others is slower than the
    encoder. With fewer than ``FEWEST`` of them there is no speed.
    """
    with compute_on(stage.compute):
        stage.process(rows)
        times = [_time(stage, rows) for _ in range(REPEATS)]
    idle = np.array([clock for clock, processor in times if processor >= SHARE * clock])
    if len(idle) < FEWEST:
        return Speed(busy=f"the machine was busy in {REPEATS - len(idle)} of {REPEATS} trials")
    error = bootstrap_error(lambda weights: _speed(np.repeat(idle, weights), len(rows)), len(idle))
    return Speed(_speed(idle, len(rows)), error)


def _time(stage: Stage, rows: list[Row]) -> tuple[float, float]:
    clock, processor = time.perf_counter(), time.process_time()
    stage.process(rows)
    return time.perf_counter() - clock, time.process_time() - processor


def _speed(seconds: np.ndarray, rows: int) -> float:
    return rows / float(np.quantile(seconds, 0.25))
