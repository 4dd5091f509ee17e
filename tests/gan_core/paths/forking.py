"""Trainings and measurements in forked processes: ``test_path_study`` runs these tests in a process of their own."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from gan_core.device import Compute, compute_on
from gan_core.errors import ParamsError
from gan_core.training.beside import in_processes, results_of
from gan_core.training.path_study import PathStudy
from gan_core.training.paths import PathState
from tests.reports import Reports

SHA = "0" * 64
TRAININGS = [("straight", 0), ("bent", 0), ("straight", 1)]


def test_trainings_beside_each_other_are_those_of_one_after_the_other(study: PathStudy, tmp_path: Path) -> None:
    small = replace(study, params=study.params.model_copy(update={"moves": [8]}))
    (tmp_path / "alone").mkdir()
    in_turn = [small.reach(*pair, 8, tmp_path / "alone", lambda _: Reports()) for pair in TRAININGS]
    jobs = [partial(small.reach, *pair, 8, tmp_path, lambda _: Reports()) for pair in TRAININGS]
    in_processes(jobs, 2)
    for expected, (method, seed) in zip(in_turn, TRAININGS, strict=True):
        state = PathState.create(study.models[method], small._params(seed, 8), study.generator, SHA)
        state.load(tmp_path / f"{method}-{seed}.pt")
        pairs = zip(state.paths.parameters(), expected.paths.parameters(), strict=True)
        assert state.seen == 8 and all(torch.equal(one, other) for one, other in pairs)


def test_rows_that_are_measured_beside_each_other_are_those_of_one_after_the_other(
    study: PathStudy, tmp_path: Path
) -> None:
    small = replace(study, params=study.params.model_copy(update={"moves": [8, 16]}))
    rows = {}
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        rows[workers] = small.run(folder, folder / "rows.json", lambda _: Reports(), workers)
    assert [{**row, "seconds": 0} for row in rows[2]] == [{**row, "seconds": 0} for row in rows[1]]


def test_results_are_in_the_order_of_the_jobs() -> None:
    waits = [0.3, 0.0, 0.1, 0.0]
    assert results_of([partial(waited, seconds) for seconds in waits], 2) == waits


def waited(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_a_job_that_fails_ends_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="job 2 of 2 failed: exit code 1"):
        in_processes([lambda: (tmp_path / "done").touch(), lambda: 1 / 0], 1)
    assert (tmp_path / "done").exists() and "ZeroDivisionError" in capfd.readouterr().err
    with compute_on(Compute("cuda:0")), pytest.raises(ParamsError, match=r"2 workers need run.device cpu, not cuda:0"):
        in_processes([], 2)
