"""``benchmarks.gpu`` on the pretended device: every line of it runs, and what is cut short still ends with a result."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.gpu_parts import Numbers
from gan_core.device import KINDS, Kind

ROOT = Path(__file__).parents[2]
Patch, Captured = pytest.MonkeyPatch, pytest.CaptureFixture[str]


def test_without_a_card_it_ends_with_a_line(monkeypatch: Patch, capsys: Captured) -> None:
    monkeypatch.setitem(KINDS, "cuda", Kind(lambda: 0, lambda: False))
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == ""
    assert err.startswith("run.device: there is no cuda") and err.count("\n") == 1


def test_a_part_that_fails_or_takes_too_long_ends_alone() -> None:
    def slow() -> Numbers:
        yield "first", 1.0
        time.sleep(30)

    def late() -> Numbers:
        time.sleep(30)
        yield "third", 3.0

    def wrong() -> Numbers:
        yield "second", 2.0
        raise ValueError("wrong")

    results: dict[str, float] = {}
    gpu.collect("slow", 0.2, slow, results)
    gpu.collect("wrong", 5.0, wrong, results)
    gpu.collect("late", -3.0, late, results)
    assert results == {"first": 1.0, "slow cut short": 1.0, "second": 2.0, "wrong failed": 1.0, "late cut short": 1.0}


@pytest.mark.slow
def test_every_line_of_it_runs_on_the_pretended_device(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--pretend", "--seconds", "3000"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1].removeprefix("RESULT "))
    assert not [name for name in results if name.endswith(("failed", "cut short"))], done.stdout[-5000:]
    assert results["golden_tests_pass"] == 1.0 and results["flow_rows_per_s"] > 0
