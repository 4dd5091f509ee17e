"""Names that differ between versions of Python and numpy are read on all of them; their neighbours are not."""

import pickle
import struct
import sys
from argparse import Namespace
from collections import deque
from datetime import datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.hostile_files import named, zipped
from gan_core.checkpoints.containers import open_checkpoint
from gan_core.errors import CheckpointError

PATHS = {  # what each Python writes: its module, the class, the arguments; and the path as text
    "3.11": ("pathlib", "PosixPath", ("/", "data", "ffhq"), "/data/ffhq"),
    "3.13": ("pathlib._local", "PosixPath", ("/data/ffhq",), "/data/ffhq"),
    "3.14": ("pathlib", "PosixPath", ("/data", "ffhq/"), "/data/ffhq"),
    "3.11, here": ("pathlib", "PosixPath", (), "."),
    "3.13, pure": ("pathlib._local", "PurePosixPath", ("a/b",), "a/b"),
    "3.11, Windows": ("pathlib", "WindowsPath", ("C:\\", "data", "ffhq"), "C:\\data\\ffhq"),
    "3.13, Windows": ("pathlib._local", "WindowsPath", ("C:/data/ffhq",), "C:\\data\\ffhq"),
    "3.13, pure Windows": ("pathlib._local", "PureWindowsPath", ("C:data",), "C:data"),
}
NEIGHBOURS = [
    ("pathlib._local", "Path"),
    ("pathlib._local", "PosixPath.read_text"),
    ("pathlib._local", "os.system"),
    ("pathlib._abc", "PathBase"),
    ("numpy._core.multiarray", "fromfile"),
    ("numpy", "load"),
    ("collections", "namedtuple"),
    ("copyreg", "__newobj__"),
    ("builtins", "bytearray"),
]


def opcode_text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def read(path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    return open_checkpoint(path).load()


@pytest.fixture
def no_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any import of ``pathlib._local`` fail, on 3.13 too."""
    monkeypatch.setitem(sys.modules, "pathlib._local", None)


@pytest.mark.usefixtures("no_local")
@pytest.mark.parametrize("written", PATHS)
def test_the_paths_of_every_python(written: str, tmp_path: Path) -> None:
    module, name, parts, expected = PATHS[written]
    old = named(module, name, *parts)
    new = b"\x80\x04" + opcode_text(module) + opcode_text(name) + b"\x93(" + b"".join(map(opcode_text, parts)) + b"tR."
    assert read(tmp_path / "old.pkl", old) == read(tmp_path / "new.pkl", new) == expected
    options = b"\x80\x02cargparse\nNamespace\n)\x81}" + opcode_text("exp_dir") + old[2:-1] + b"sb."
    assert read(tmp_path / "x.pt", zipped({"x/data.pkl": options})) == {"exp_dir": expected}


@pytest.mark.parametrize("path", [Path("/data/ffhq"), Path(), PurePosixPath("a//b"), PureWindowsPath("C:/data/ffhq")])
def test_the_paths_of_this_python(path: PurePosixPath | PureWindowsPath, tmp_path: Path) -> None:
    options = Namespace(exp_dir=path, stylegan_size=1024)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        found = read(tmp_path / "x.pkl", pickle.dumps({"opts": options}, protocol))
        assert found == {"opts": {"exp_dir": str(path), "stylegan_size": 1024}}
    for legacy in (False, True):
        torch.save({"opts": options}, tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
        assert open_checkpoint(tmp_path / "x.pt").load() == {"opts": {"exp_dir": str(path), "stylegan_size": 1024}}


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_the_numbers_of_numpy_1_and_2(core: bytes, tmp_path: Path) -> None:
    values = np.arange(6.0).reshape(2, 3)
    kind = b"cnumpy\ndtype\n" + opcode_text("f8") + b"\x89\x88\x87R(K\x03" + opcode_text("<")
    kind += b"NNN" + struct.pack("<BiBi", *b"J", -1, *b"J", -1) + b"K\x00tb"
    scalar = b"c" + core + b".multiarray\nscalar\n" + kind + b"C\x08" + struct.pack("<d", 0.5) + b"\x86R"
    empty = b"c" + core + b".multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    array = empty + b"(K\x01K\x02K\x03\x86" + kind + b"\x89C\x30" + values.tobytes() + b"tb"
    buffer = b"c" + core + b".numeric\n_frombuffer\n(\x96" + struct.pack("<Q", 48) + values.tobytes()
    buffer += kind + b"K\x02K\x03\x86" + opcode_text("C") + b"tR"
    found = read(tmp_path / "x.pkl", b"\x80\x05" + scalar + array + buffer + b"\x87.")
    assert found[0] == 0.5 and found[1].tolist() == found[2].tolist() == values.tolist()


def test_no_numbers_at_all(tmp_path: Path) -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):  # protocol 2 has no opcode for bytes
        found = read(tmp_path / "x.pkl", pickle.dumps([b"", np.zeros((0, 3))], protocol))
        assert found[0] == b"" and found[1].shape == (0, 3)
    torch.save([b"", torch.zeros(0, 3)], tmp_path / "x.pt")
    assert open_checkpoint(tmp_path / "x.pt").load()[1].shape == (0, 3)


@pytest.mark.parametrize(("module", "name"), NEIGHBOURS)
def test_other_names_of_the_same_modules_are_refused(module: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"asks to run .*, so it is more than weights"):
        read(tmp_path / "x.pkl", named(module, name, "x"))


@pytest.mark.parametrize("arguments", [b"K\x05\x85", b"]\x85", b"\x8f\x85", b"C\x01a\x85"])
@pytest.mark.parametrize("name", ["pathlib._local\nPosixPath", "builtins\nbytes"])
def test_arguments_that_no_writer_gives_are_refused(name: str, arguments: bytes, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="its pickle is damaged"):
        read(tmp_path / "x.pkl", b"\x80\x04c" + name.encode() + b"\n" + arguments + b"R.")


def test_a_schedule_with_milestones(tmp_path: Path) -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    state = torch.optim.lr_scheduler.MultiStepLR(optimiser, [1, 2, 2]).state_dict()
    torch.save({"scheduler": state}, tmp_path / "x.pt")
    assert open_checkpoint(tmp_path / "x.pt").load()["scheduler"]["milestones"] == {1: 1, 2: 2}


@pytest.mark.parametrize("value", [datetime(2026, 1, 1), deque([1]), SimpleNamespace(size=64), torch.ones(2) * 1j])
def test_what_runs_nothing_and_is_not_read_is_not_called_more_than_weights(value: Any, tmp_path: Path) -> None:
    torch.save({"opts": value}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=r"which isn't read|that isn't read") as refused:
        open_checkpoint(tmp_path / "file.pt")
    assert "more than weights" not in str(refused.value)
