"""Threads, processes and Dask: the same flow, the same output, and a sentence where Dask is missing."""

import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from flows.edit_dataset import edit_dataset
from flows.runners import make_runner
from gan_core.errors import ParamsError
from gan_core.params import RunParams
from gan_core.storage.receipts import Receipt

QUICK = {"tune.enabled": False, "edits": [], "measure.metrics": ["mse"]}


def hashes(output: str) -> dict[str, str]:
    """Return the hash of every shard of a run."""
    found = sorted(Path(output).glob("*/*.receipt.json"))
    return {f"{p.parent.name}/{p.name}": Receipt.model_validate_json(p.read_text()).output_sha256 for p in found}


def test_each_name_is_its_runner_and_dask_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_runner(RunParams()), ThreadPoolTaskRunner)
    assert isinstance(make_runner(RunParams(runner="processes")), ProcessPoolTaskRunner)
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(ParamsError, match=r"not installed: pip install -e '\.\[dask\]'"):
        make_runner(RunParams(runner="dask"))


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
