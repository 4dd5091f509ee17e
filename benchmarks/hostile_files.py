"""Checkpoint files that must be refused: damaged, swapped, faked, bombs, and pickles that would run a command.

Every payload would create a file named ``pwned`` in the current folder if anything ran it.
"""

import io
import json
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from gan_core.generators.stylegan2 import StyleGAN2

COMMAND = "touch pwned"
Write = Callable[[Path], object]


def state(seed: int = 0) -> dict[str, Tensor]:
    """The state dict of a very small StyleGAN2."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return dict(StyleGAN2(8, style_dim=4, n_mlp=2, channels={4: 6, 8: 5}).state_dict())


def saved(content: Any, legacy: bool = False) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def whole_files() -> dict[str, bytes]:
    """Good files of each container, all holding the same generator."""
    content = {"g_ema": state(), "latent_avg": torch.zeros(4)}
    return {"zip.pt": saved(content), "legacy.pt": saved(content, legacy=True), "safetensors": save(state())}


NUMBERS = (b"9" * 400, b"-1", b"NaN", b"1e999", b"18446744073709551616", b"0")
"""Numbers that programs seldom expect."""


def mutate(data: bytes, places: random.Random, most: int = 4) -> bytes:
    """Damage a file as hostile or broken writers do: bytes flipped, cut, doubled, moved, and numbers exchanged."""
    spoiled = bytearray(data)
    for _ in range(places.randint(1, most)):
        at, length = places.randrange(len(spoiled) + 1), min(places.choice((1, 4, 64, 4096)), len(spoiled))
        other = places.randrange(len(spoiled) - length + 1)
        spoiled[at : at + places.choice((0, length))] = places.choice(
            (
                b"",
                bytes(length),
                b"\xff" * length,
                places.randbytes(length),
                bytes(spoiled[other : other + length]),
                places.choice(NUMBERS),
                places.choice(b'[{"(,:').to_bytes(1, "big") * length,
            )
        )
    return bytes(spoiled)


VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x" * 5000,
    "../../x",
    "a\0\nb",
    "\ud800",
    [],
    [[[[]]]],
    {},
    {"": {}},
)
"""Values that readers of JSON seldom expect."""


def mutate_json(content: Any, places: random.Random) -> Any:
    """Return JSON content with one value, at whatever depth, exchanged, removed or told twice."""
    inside = list(
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    )
    if not inside or places.random() < 0.1:
        return places.choice(VALUES)
    key, value = places.choice(inside)
    if isinstance(value, dict | list) and value and places.random() < 0.8:
        return _with(content, key, mutate_json(value, places))
    kind = places.choice(("exchange", "exchange", "exchange", "remove", "rename"))
    if kind == "exchange" or isinstance(content, list):
        return _with(content, key, places.choice(VALUES))
    rest = {name: kept for name, kept in content.items() if name != key}
    return rest if kind == "remove" else rest | {str(places.choice(VALUES))[:5000]: value}


def _with(content: Any, key: Any, value: Any) -> Any:
    if isinstance(content, dict):
        return content | {key: value}
    return [*content[:key], value, *content[key + 1 :]]


class Payload:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def named(module: str, name: str, *arguments: str) -> bytes:
    """A pickle that calls ``module.name``, whether or not that exists here."""
    texts = b"".join(b"X" + struct.pack("<I", len(text)) + text.encode() for text in arguments)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + texts + b"tR."


def hostile_files() -> dict[str, bytes | Write]:
    """Name -> content, or a function that makes it at a path."""
    files: dict[str, bytes | Write] = {}
    for source in (truncated(), misshapen(), running(), bombs(), archives(), impostors()):
        files |= dict(source)
    return files


def truncated() -> Iterator[tuple[str, bytes]]:
    """Good files cut at random places."""
    places = random.Random(0)
    for name, data in whole_files().items():
        for i in range(4):
            cut = places.randrange(9, len(data) - 1)
            yield f"cut-{i}-{name}", data[:cut]


def misshapen() -> Iterator[tuple[str, bytes]]:
    """Whole files with the wrong tensors in them."""
    good = state()
    first, second = "conv1.conv.weight", "convs.0.conv.weight"
    yield "swapped-keys.pt", saved({"g_ema": good | {first: good[second], second: good[first]}})
    yield "missing-key.pt", saved({"g_ema": {key: value for key, value in good.items() if key != "style.2.bias"}})
    yield "unknown-key.pt", saved({"g_ema": good | {"backdoor.weight": torch.zeros(2)}})
    yield "integers.pt", saved({"g_ema": good | {first: good[first].long()}})
    yield "complex.pt", saved({"g_ema": good | {first: good[first].to(torch.complex64)}})
    yield "not-a-number.pt", saved({"g_ema": good | {first: good[first] * float("nan")}})
    yield "text-for-tensor.pt", saved({"g_ema": good | {first: "weights"}})
    yield "wrong-dimensions.pt", saved({"g_ema": good | {first: good[first].flatten()}})
    yield "list.pt", saved([good[first]])
    yield "number.pkl", pickle.dumps(3)


def running() -> Iterator[tuple[str, bytes]]:
    """Pickles that run a command when they are opened freely."""
    import os

    for protocol in (0, 2, 4):
        yield f"os-system-{protocol}.pkl", pickle.dumps(Payload(os.system, COMMAND), protocol)
    code = f"__import__('os').system({COMMAND!r})"
    yield "eval.pkl", pickle.dumps(Payload(eval, code))
    yield "exec-in-zip.pt", saved({"g_ema": state(), "args": Payload(exec, code)})
    yield "exec-in-legacy.pt", saved({"g_ema": state(), "args": Payload(exec, code)}, legacy=True)
    yield "popen.pkl", named("subprocess", "Popen", COMMAND)
    yield "free-torch-load.pkl", named("torch", "load", "other.pt")
    yield "dotted-name.pkl", named("collections", "OrderedDict.fromkeys", "x")
    inner = pickle.dumps(Payload(os.system, COMMAND))
    yield "nested-command.pkl", nested(inner)
    yield "nested-twice.pkl", nested(nested(inner))
    yield "instance-opcode.pkl", b"(S'touch pwned'\nios\nsystem\n."
    yield "attributes-of-a-name.pkl", b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb."


def nested(inner: bytes) -> bytes:
    """A pickle that holds another file's bytes, as NVIDIA's pickles hold tensors."""
    data = b"B" + struct.pack("<I", len(inner)) + inner
    return b"\x80\x03ctorch.storage\n_load_from_bytes\n" + data + b"\x85R."


def bombs() -> Iterator[tuple[str, bytes | Write]]:
    """Small files that grow."""
    yield "compressed.pt", zipped({"x/data.pkl": b"\x80\x02N.", "x/data/0": bytes(30_000_000)}, zipfile.ZIP_DEFLATED)
    yield "deep.pkl", b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
    yield "laughs.pkl", b"\x80\x04" + b"N" + b"2\x86" * 60 + b"."
    yield "copies.pkl", b"\x80\x02(" + b"K\x01" * 90_000 + b"lq\x00" + b"cbuiltins\nset\nh\x00\x85R" * 20_000 + b"."
    yield "arguments.pkl", b"\x80\x02(" + b"N" * 300_000 + b"tq\x00" + b"cargparse\nNamespace\nh\x00R" * 200_000 + b"."
    path = b"cpathlib._local\nPosixPath\nX" + struct.pack("<I", 1 << 20) + b"a/" * (1 << 19) + b"\x85R"
    yield "long-path.pkl", b"\x80\x02" + path + b"."
    yield "long-number.pkl", b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"\x01."
    yield "long-text.pkl", b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"a."
    yield "far-memo.pkl", b"\x80\x02Nr\xff\xff\xff\x7f."
    yield "expanded.pt", saved({"g_ema": state() | {"conv1.conv.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}})
    good = whole_files()["zip.pt"]
    yield "storage-too-long.pt", good.replace(b"K\x04tq", b"K\xfftq")
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    yield "far-tensor.safetensors", struct.pack("<Q", len(header)) + header + bytes(64)
    yield "long-header.safetensors", struct.pack("<Q", 1 << 50) + b'{"a": 1}'
    yield "sparse.pt", sparse


def sparse(path: Path) -> None:
    """A file of many gigabytes that takes no room on the disk."""
    with open(path, "wb") as file:
        file.write(b"\x80\x02")
        file.truncate(1 << 36)


def archives() -> Iterator[tuple[str, bytes]]:
    """Archives with a checkpoint inside."""
    good = whole_files()["zip.pt"]
    yield "zip-in-zip.pt", zipped({"model.pt": good})
    yield "twice-the-name.pt", zipped({"x/data.pkl": b"N.", "X/data.pkl": b"N."}).replace(b"X/data", b"x/data")
    yield "torchscript.pt", zipped({"x/data.pkl": b"\x80\x02N.", "x/code/m.py": b"import os", "x/constants.pkl": b""})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pt"))
    yield "archive.tar", buffer.getvalue()
    yield "archive.gz", b"\x1f\x8b\x08\x00" + good[:200]


def impostors() -> Iterator[tuple[str, bytes | Write]]:
    """What stands where a checkpoint should be."""
    yield "empty.pt", b""
    yield "pointer.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
    yield "page.pt", b"<!DOCTYPE html><html><body>Google Drive - Quota exceeded</body></html>"
    yield "page-2.pkl", b"\n\n<html><head></head>Sign in</html>"
    yield "folder.pt", lambda path: path.mkdir()
    yield "picture.pt", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "keras.pt", b"\x89HDF\r\n\x1a\n" + bytes(100)
    yield "text.pt", b"epoch loss\n1 0.5\n"
    yield "noise.pt", random.Random(1).randbytes(5000)


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of named bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def write_file(folder: Path, name: str, content: bytes | Write) -> Path:
    """Put one of them into a folder."""
    path = folder / name
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    return path
