"""Speed is that of an idle machine, or there is none."""

from itertools import repeat
from typing import Any

import pytest

from gan_core.device import computing
from gan_core.nightly import speed
from gan_core.nightly.speed import time_stage


class Sleeper:
    """A stage that does nothing."""

    compute = computing()

    def process(self, rows: list[Any]) -> list[Any]:
        return rows


def clocks(monkeypatch: pytest.MonkeyPatch, trials: list[tuple[float, float]]) -> None:
    """Let each trial take these seconds of the clock and of the processor."""
    times = iter(trials)
    monkeypatch.setattr(speed, "_time", lambda *_: next(times))


def test_disturbed_trials_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, [(1.0, 0.99), (5.0, 1.0)] * 12)
    told = time_stage(Sleeper(), list(range(16)))  # type: ignore[arg-type]
    assert (told.value, told.noise, told.busy) == (16.0, 0.0, "")


def test_the_lower_quartile_of_the_times_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, [(1 + i, 1 + i) for i in range(24)])
    told = time_stage(Sleeper(), list(range(16)))  # type: ignore[arg-type]
    assert told.value == pytest.approx(16 / 6.75) and told.noise > 0


def test_on_a_busy_machine_there_is_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, [*repeat((1.0, 1.0), 7), *repeat((1.0, 0.5), 17)])
    assert time_stage(Sleeper(), [{}]).busy == "the machine was busy in 17 of 24 trials"  # type: ignore[arg-type]
