"""The random trials: every promise has its turn, what goes wrong is told with its seed, and seeds repeat trials."""

import os
import random
from collections import Counter
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import faults
from benchmarks.fault_bench import bounded
from benchmarks.fault_trials import TRIALS, in_session
from benchmarks.faults import attempt, plan, run_trials
from benchmarks.hostile_files import mutate
from gan_core.errors import ParamsError


def test_each_round_has_all_promises_and_a_seed_repeats_it() -> None:
    length = sum(times for _, times in TRIALS.values())
    first = list(islice(plan(3, []), 2 * length))
    assert first == list(islice(plan(3, []), 2 * length)) != list(islice(plan(4, []), 2 * length))
    assert Counter(name for name, _ in first[:length]) == {name: times for name, (_, times) in TRIALS.items()}
    assert {name for name, _ in islice(plan(3, ["kills", "pairs"]), 8)} == {"kills", "pairs"}


def test_a_broken_promise_is_counted_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trial(_bench: Any, places: random.Random) -> None:
        assert places.random() < 0.5, "too much"

    monkeypatch.setitem(TRIALS, "pictures", (trial, 1))
    bench: Any = None
    told = [attempt(bench, "pictures", seed) for seed in range(20)]
    assert "" in told and any(text.startswith("AssertionError: too much") for text in told)
    ticks = iter(range(100))
    monkeypatch.setattr(faults, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    trials, failures = run_trials(bench, 0, 0.5, ["pictures"])
    assert trials["pictures"] == 30 and 0 < failures["pictures"] < 30
    assert capsys.readouterr().out.count("FAILED pictures --trial") == failures["pictures"]


def test_a_refusal_is_one_short_line() -> None:
    def refuse(text: str) -> Any:
        class Long(ParamsError):
            def __str__(self) -> str:
                return text

        raise Long

    assert bounded(lambda: 1)
    assert not bounded(lambda: refuse("no"))
    for text in ("x" * 501, "two\nlines"):
        with pytest.raises(AssertionError, match="is no short line"):
            bounded(lambda text=text: refuse(text))  # type: ignore[misc]


def test_damage_is_repeated_by_its_seed_and_processes_are_found() -> None:
    data = bytes(range(256)) * 4
    assert mutate(data, random.Random(1)) == mutate(data, random.Random(1)) != mutate(data, random.Random(2))
    assert os.getpid() in in_session(os.getsid(0))
