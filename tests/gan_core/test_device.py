"""One place decides where networks compute; what is not there is a sentence."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_core import device
from gan_core.device import (
    HOST,
    KINDS,
    WORKER,
    Kind,
    compute_on,
    computing,
    describe_device,
    fetch,
    fetch_all,
    find_device,
    keep_exact,
    number_worker,
    on_host,
    place,
    place_array,
    widest,
    workers_a_card,
)
from gan_core.errors import ParamsError
from gan_core.params import Params, check_params
from gan_core.runs.stage import build_stage
from gan_core.storage.receipts import Receipt, write_receipt


def cards(monkeypatch: pytest.MonkeyPatch, count: int, kind: str = "cuda") -> list[str]:
    """Pretend that there are so many cards; return where it is noted that they were prepared."""
    prepared: list[str] = []
    made = Kind(lambda: count, lambda: True, 32, 512, lambda: prepared.append(kind))
    monkeypatch.setitem(KINDS, kind, made)
    return prepared


def test_without_a_card_auto_is_the_cpu() -> None:
    assert find_device("cpu") == HOST == computing()
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert find_device("auto") == HOST
        assert describe_device("auto") == "cpu: run.device is auto, there is no cuda and no mps"


def test_auto_takes_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = cards(monkeypatch, 2)
    found = find_device("auto")
    assert (found.device, found.kind, found.rows, found.side) == ("cuda:0", "cuda", 32, 512)
    assert found.look_every > 1 and prepared == ["cuda"]
    assert find_device("cuda:1").device == "cuda:1"


def test_worker_processes_take_a_card_each(monkeypatch: pytest.MonkeyPatch) -> None:
    cards(monkeypatch, 2)
    monkeypatch.delenv(WORKER, raising=False)
    assert find_device("cuda").device == "cuda:0"
    for number, wanted in enumerate([0, 1, 0]):
        monkeypatch.setenv(WORKER, "")  # put back afterwards
        number_worker(number)
        assert find_device("cuda").device == find_device("auto").device == f"cuda:{wanted}"
        assert find_device("cuda:1").device == "cuda:1" and find_device("cpu") == HOST
    assert [workers_a_card("cuda", n) for n in (1, 2, 3, 4)] == [1, 1, 2, 2]
    assert workers_a_card("cuda:1", 4) == workers_a_card("cpu", 4) == 4


@pytest.mark.parametrize(
    ("wanted", "there", "message"),
    [
        ("cuda", 0, "run.device: there is no cuda, this process sees 0: choose another, or auto"),
        ("cuda:2", 2, "run.device: there is no cuda:2, this process sees 2: choose another, or auto"),
        ("mps", 0, "run.device: there is no mps, this process sees 0: choose another, or auto"),
        ("cdua", 0, "run.device: unknown device 'cdua'; did you mean 'cuda'"),
        ("cpu:x", 0, "run.device: unknown device 'cpu:x'; did you mean 'cpu'"),
    ],
)
def test_a_device_that_is_not_there_is_a_sentence(
    wanted: str, there: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cards(monkeypatch, there), cards(monkeypatch, 0, "mps")
    with pytest.raises(ParamsError) as error:
        find_device(wanted)
    assert str(error.value).startswith(message)
    with pytest.raises(ParamsError, match=r"run\.device"):
        build_stage("align", check_params({"run": {"device": wanted}}), "")


def test_hidden_cards_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cards(monkeypatch, 0)
    with pytest.raises(ParamsError, match=r"sees 0 with CUDA_VISIBLE_DEVICES=: choose"):
        find_device("cuda")


@pytest.mark.parametrize("text", ["", "cuda:", "cuda:x", "CUDA", "cuda:0:1"])
def test_other_texts_are_no_devices(text: str) -> None:
    with pytest.raises(ParamsError, match=r"run\.device"):
        check_params({"run": {"device": text}})


def test_contexts_nest_and_threads_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cards(monkeypatch, 1)
    seen: list[str] = []
    with compute_on("cuda"):
        with on_host():
            assert computing() == HOST
        thread = threading.Thread(target=lambda: seen.append(computing().device))
        thread.start()
        thread.join()
        assert computing().device == "cuda:0"
    assert seen == ["cpu"] and computing() == HOST


def test_on_the_cpu_nothing_is_copied() -> None:
    tensor, array = torch.ones(3), np.ones(3, np.float32)
    assert place(tensor) is tensor
    assert np.shares_memory(fetch(place_array(array)), array)
    assert fetch_all({"a": tensor})["a"] is tensor
    assert widest(tensor).dtype == torch.float64


def test_exact_stays_exact_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before: dict[Any, Any] = {
        (place, name): getattr(place, name)
        for place, name in (
            (torch.backends.cuda.matmul, "allow_tf32"),
            *((torch.backends.cudnn, name) for name in ("allow_tf32", "benchmark", "deterministic")),
            (torch.utils.deterministic, "fill_uninitialized_memory"),
        )
    }
    try:
        keep_exact()
        assert [getattr(*key) for key in before] == [False, False, False, True, False]
        assert torch.are_deterministic_algorithms_enabled()
        assert device.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
        for (owner, name), value in before.items():
            setattr(owner, name, value)


def test_receipts_of_the_cpu_are_as_they_were(tmp_path: Path) -> None:
    receipt = Receipt(
        stage="encode",
        key="k",
        input_keys={},
        output_sha256="o",
        rows={},
        seconds=0.0,
        code_version="c",
        identity={},
    )
    for kind in ("cpu", "cuda"):
        made = receipt.model_copy(update={"device": kind})
        write_receipt(tmp_path / "shard", made)
        text = (tmp_path / "shard.receipt.json").read_text()
        assert ('"device"' in text) == (kind != "cpu")
        assert Receipt.model_validate_json(text) == made


def test_the_default_follows_the_machine() -> None:
    assert Params().run.device == "auto"
