"""Threads, processes and Dask: the same flow, the same output, and a sentence where Dask is missing."""

import multiprocessing
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from flows import runners
from flows.edit_dataset import edit_dataset
from flows.runners import make_runner
from gan_core.device import KINDS, WORKER, Kind, find_device
from gan_core.errors import ParamsError
from gan_core.params import RunParams
from tasks import processes
from tasks.dask_worker import dask_setup
from tasks.slots import slot_name
from tests.conftest import hashes

QUICK = {"tune.enabled": False, "edits": [], "measure.metrics": ["mse"]}


def test_each_name_is_its_runner_and_dask_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_runner(RunParams()), ThreadPoolTaskRunner)
    assert isinstance(make_runner(RunParams(runner="processes")), ProcessPoolTaskRunner)
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(ParamsError, match=r"not installed: pip install -e '\.\[dask\]'"):
        make_runner(RunParams(runner="dask"))


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cards of CUDA, on which nothing is computed."""
    monkeypatch.setitem(KINDS, "cuda", Kind(lambda: 2, lambda: True))
    monkeypatch.setenv(WORKER, "")


@pytest.mark.usefixtures("two_cards")
def test_processes_of_a_pool_take_a_card_each_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.signal, "signal", lambda *given: None)
    monkeypatch.setattr(processes, "share", lambda flag: None)
    begun, taken = processes.make_counter(), []
    for _ in range(3):
        processes.prepare_process(processes.make_flag(), begun)
        taken.append(find_device("cuda").device)
    assert taken == ["cuda:0", "cuda:1", "cuda:0"]


def take_card(begun: Any, taken: Any) -> None:
    """Be a process of a pool on a host with two cards, and say which is its own."""
    processes.prepare_process(processes.make_flag(), begun)
    KINDS["cuda"] = Kind(lambda: 2, lambda: True)
    taken.put([find_device(wanted).device for wanted in ("cuda", "auto", "cuda:1")])


@pytest.mark.slow
def test_processes_that_are_started_take_a_card_each() -> None:
    spawn = multiprocessing.get_context("spawn")
    begun, taken = processes.make_counter(), spawn.Queue()
    started = [spawn.Process(target=take_card, args=(begun, taken)) for _ in range(2)]
    for process in started:
        process.start()
    assert sorted(taken.get(timeout=120) for _ in started) == [[f"cuda:{n}", f"cuda:{n}", "cuda:1"] for n in (0, 1)]
    for process in started:
        process.join()


@pytest.mark.usefixtures("two_cards")
@pytest.mark.parametrize(("name", "device"), [(1, "cuda:1"), ("2", "cuda:0"), ("tcp://somewhere", "cuda:0")])
def test_workers_of_dask_take_a_card_each(name: Any, device: str) -> None:
    dask_setup(SimpleNamespace(name=name))
    assert find_device("cuda").device == device


@pytest.mark.usefixtures("two_cards")
def test_on_cards_the_cluster_is_that_of_dask_cuda_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setitem(
        sys.modules, "prefect_dask", SimpleNamespace(DaskTaskRunner=lambda **given: asked.append(given))
    )
    for device, installed in (("cuda", True), ("cuda", False), ("cuda:1", True), ("cpu", True)):
        monkeypatch.setattr(runners, "find_spec", lambda name, found=installed: found)
        make_runner(RunParams(runner="dask", workers=4, device=device))
    own = {"n_workers": 4, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    assert asked[0] == {"cluster_class": "dask_cuda.LocalCUDACluster", "cluster_kwargs": own | {"n_workers": 2}}
    assert asked[1:] == [{"cluster_kwargs": own | {"processes": True, "preload": ["tasks.dask_worker"]}}] * 3


def test_a_limit_may_be_a_cards_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.slots.socket.gethostname", lambda: "host7")
    assert slot_name("gpu-{card}", "cuda:1") == "gpu-host7-cuda-1"
    assert slot_name("gpu", "cuda:1") == "gpu" and slot_name("", "cpu") == ""


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["processes", "dask"])
def test_other_runners_give_the_same_bytes(
    project: Path, tiny_dataset: str, on_server: str, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    if runner == "dask":
        pytest.importorskip("prefect_dask", reason="Dask is an extra: pip install -e '.[dask]'")
    monkeypatch.setenv("PREFECT_API_URL", on_server)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    overrides: dict[str, Any] = QUICK | {"run.workers": 2}
    edit_dataset(tiny_dataset, "threads", overrides=overrides)
    edit_dataset(tiny_dataset, "others", overrides=overrides | {"run.runner": runner})
    assert hashes("others") == hashes("threads") and len(hashes("others")) == 12
