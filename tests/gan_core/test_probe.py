"""Batch sizes by trial: what is chosen from what is seen, and one real trial."""

from pathlib import Path

import pytest
import torch
from pydantic import BaseModel

from gan_core import probe
from gan_core.device import KINDS, Kind
from gan_core.params import Params, load_params
from gan_core.probe import Trial, choose_rows, probe_settings, try_tuning
from gan_core.recipes.base import plan_run


def chosen(limit_mb: float, *trials: Trial | None) -> tuple[int, list[str]]:
    waiting, told = list(trials), []
    rows = choose_rows(lambda _: waiting.pop(0), limit_mb, told.append)
    assert not waiting
    return rows, told


def test_a_larger_batch_is_taken_while_it_is_faster_and_fits() -> None:
    two, four, eight = Trial(2, 4.0, 1000), Trial(4, 6.0, 1500), Trial(8, 11.5, 2500)
    assert chosen(9999, two, four, eight)[0] == 4  # eight gain less than a tenth
    assert chosen(2200, two, four)[0] == 4  # eight would take 2500
    assert chosen(1400, two)[0] == 2
    assert chosen(900, two) == (1, ["tuning 2 rows together: 2.00 s a row and step, 1000 MB"])
    assert chosen(9999, two, None) == (2, [str(two), "tuning 4 rows together: killed for its memory"])


@pytest.fixture
def params(project: Path) -> Params:
    return load_params()


def test_a_trial_tunes_in_a_process_of_its_own(params: Params) -> None:
    trial = try_tuning(params, 2)
    assert trial is not None and trial.rows == 2 and trial.seconds > 0
    assert 100 < trial.peak_mb < 4000


def test_pictures_of_a_batch_are_bounded(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "try_tuning", lambda _, rows: Trial(rows, 1.0, 1e12))
    told: list[str] = []
    assert probe_settings(params, str(tmp_path), told.append) == {"run.batch_size": 4, "tune.batch_size": 1}
    assert told[-1] == "run.batch_size 4, tune.batch_size 1"
    large = with_section(params, run={"batch_size": 32}, align={"size": 1024}, tune={"enabled": False})
    assert probe_settings(large, str(tmp_path), told.append) == {"run.batch_size": 10}


def test_a_run_goes_on_with_what_it_began_with(tiny_dataset: str, params: Params) -> None:
    plan_run(tiny_dataset, "run", overrides={"tune.batch_size": 3}).begin()
    assert probe_settings(params, "run", lambda _: None) == {"run.batch_size": 4, "tune.batch_size": 3}


@pytest.mark.parametrize(
    ("runner", "device", "share"), [("processes", "cuda", 2), ("threads", "cuda", 4), ("processes", "cuda:1", 4)]
)
def test_workers_share_the_memory_of_their_own_card(
    runner: str, device: str, share: int, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "cuda", Kind(lambda: 2, lambda: True))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000 * 2**20, 0))
    run = {"runner": runner, "device": device, "workers": 4}
    assert probe._limit_mb(with_section(params, run=run)) == probe.SHARE * 1000 / share


def with_section(params: Params, **sections: dict[str, object]) -> Params:
    def changed(section: BaseModel, values: dict[str, object]) -> BaseModel:
        return section.model_copy(update=values)

    return params.model_copy(update={name: changed(getattr(params, name), v) for name, v in sections.items()})
