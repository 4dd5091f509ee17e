"""Batch sizes by trial: what is chosen from what is seen, and one real trial."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel

from gan_core import probe
from gan_core.device import KINDS, Compute, Kind, compute_on
from gan_core.params import Params, load_params
from gan_core.probe import Trial, choose_rows, probe_settings, try_tuning
from gan_core.recipes.base import plan_run
from gan_core.stages.tune import TuneStage


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


def test_on_a_card_its_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = {"cuda:0": (800, 300), "cuda:1": (500, 200)}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda card: (cards[card][0] * 2**20, 0))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda card: cards[card][1] * 2**20)
    for card, (free, used) in cards.items():
        with compute_on(Compute(card)):
            assert (probe.available_mb(), probe.peak_mb()) == (free, used)


def test_a_trial_that_runs_out_of_a_cards_memory_is_one_that_does_not_fit(
    params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(stage: TuneStage, rows: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(TuneStage, "process", fail)
    monkeypatch.setattr(sys, "argv", ["probe", "2"])
    monkeypatch.setattr(sys, "stdin", io.StringIO(params.model_dump_json()))
    with pytest.raises(SystemExit) as ended:
        probe.main()
    assert ended.value.code == probe.NO_MEMORY and capsys.readouterr().out == ""
    ran = subprocess.CompletedProcess([], probe.NO_MEMORY, "")
    monkeypatch.setattr(probe.subprocess, "run", lambda *given, **options: ran)
    assert try_tuning(params, 2) is None


def with_section(params: Params, **sections: dict[str, object]) -> Params:
    def changed(section: BaseModel, values: dict[str, object]) -> BaseModel:
        return section.model_copy(update=values)

    return params.model_copy(update={name: changed(getattr(params, name), v) for name, v in sections.items()})
