"""Damaged and hostile files: each is refused in one sentence, nothing in it runs, and memory stays small."""

import contextlib
import random
import resource
from pathlib import Path

import pytest
import torch

from benchmarks.hostile_files import hostile_files, state, whole_files, write_file
from gan_core.checkpoints.containers import open_checkpoint
from gan_core.errors import CheckpointError
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint

FILES = hostile_files()
GOLDEN = Path(__file__).parents[2] / "golden"


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_there_are_enough_of_them() -> None:
    assert len(FILES) >= 50


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_file(tmp_path, name, FILES[name])
    before = peak_megabytes()
    with pytest.raises(CheckpointError) as raised:
        import_checkpoint(path, "target.safetensors")
    message = str(raised.value)
    assert name in message and "\n" not in message and len(message) < 400 + len(str(path))
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert peak_megabytes() - before < 200


@pytest.mark.parametrize("name", [*whole_files(), "ada-tiny.pkl", "rosinality-tiny-training.pt"])
def test_changed_bytes_are_refused_or_do_no_harm(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = whole_files().get(name) or (GOLDEN / name).read_bytes()
    rng = random.Random(name)
    for _ in range(12):
        data = bytearray(good)
        for _ in range(rng.choice((1, 3))):  # most of them in the index, which is at either end
            data[rng.choice((0, -4000)) + rng.randrange(4000)] = rng.randrange(256)
        Path("x.bin").write_bytes(data)
        with contextlib.suppress(CheckpointError):
            import_checkpoint("x.bin", "target.safetensors")
        assert not Path("pwned").exists()


@pytest.mark.parametrize("name", ["malicious.pkl", "malicious.pt"])
def test_published_examples_of_malice_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"asks to run io\.open, so it is more than weights"):
        inspect_checkpoint(GOLDEN / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", whole_files())
def test_the_files_that_they_were_made_from_are_read(name: str, tmp_path: Path) -> None:
    content = open_checkpoint(write_file(tmp_path, name, whole_files()[name])).load()
    found = content.get("g_ema", content)
    assert found.keys() == state().keys() and all(torch.equal(found[key], value) for key, value in state().items())


def test_what_real_files_hold_is_read(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    content = {
        "views": [shared[1:3], shared.view(2, 3).T],
        "half": torch.ones(2, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.ones(1)),
        "optimiser": {"state": {140_000_000_000_000: {"step": torch.tensor(3), "betas": (0.9, 0.999)}}},
        "path": Path("a/b"),
        "device": torch.device("cuda", 0),
        "size": torch.Size([1, 2]),
        "names": {"x"},
        "none": None,
    }
    for legacy in (False, True):
        torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
        read = open_checkpoint(tmp_path / "x.pt").load()
        assert torch.equal(read["views"][1], content["views"][1]) and read["views"][0].tolist() == [1, 2]
        assert read["views"][0].data_ptr() == read["views"][1].data_ptr() + 4
        assert read["half"].dtype == torch.bfloat16 and read["parameter"].item() == 1
        assert read["optimiser"] == content["optimiser"] and read["size"] == (1, 2) and read["names"] == {"x"}
        assert (read["path"], read["device"], read["none"]) == ("a/b", "cuda:0", None)
