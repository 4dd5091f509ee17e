"""Trials of ``benchmarks.faults``: each breaks something and checks a promise; what it raises is a failure."""

import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.hostile_files import mutate, saved, whole_files
from flows.inspection import describe
from flows.settings import parse_settings
from gan_core.checkpoints.arrays import read_arrays
from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import load_checkpoint
from gan_core.editing.directions import load_directions
from gan_core.errors import MAX_LETTERS, UserError
from gan_core.importers import import_dataset
from gan_core.loading import load_generator
from gan_core.params import load_params
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
from gan_core.runs.run import load_run
from gan_core.storage.images import MAX_PIXELS, ImageError, decode_image
from gan_core.storage.shards import BASE_NAMES, ShardWriter, list_shards, open_shard, read_rows, shard_name
from gan_core.toy.params import load_toy_params

SAMPLE = "data/sample/shard-00000.parquet"
MODELS = Path("data/models")
CHOSEN: dict[str, Any] = {
    "run.workers": 1,
    "tune.enabled": False,
    "measure.metrics": ["mse"],
    "edits": [{"direction": "smile", "strengths": [1]}],
}
SHARDS, ROWS = 2, 2
SECONDS = 10
"""Of the processor, for one hostile file."""
PATIENCE_S = 600
COMMAND = """
import json, sys
from gan_core.errors import UserError
from gan_core.plain import run_plain
from gan_core.recipes.base import plan_run
try:
    run_plain(plan_run(sys.argv[1], sys.argv[2], overrides=json.loads(sys.argv[3]), update=True))
except UserError as error:
    sys.exit(f"error: {error}")
"""
HOSTILE = (
    "9" * 400,
    ".inf",
    ".nan",
    "-1",
    "[]",
    "{}",
    "[[[[]]]]",
    "null",
    "2001-99-99",
    '"\\0"',
    "é" * 300,
    "*a",
    "!!map x",
)


class Bench:
    """A small dataset, a finished run over it, and room for what trials break."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source, self.whole = folder, f"{folder}/source", folder / "whole"
        fields = [f for f in _schema(SAMPLE) if f.name not in BASE_NAMES]
        self.rows = [row for part in read_rows(SAMPLE) for row in part][: SHARDS * ROWS]
        for i in range(SHARDS):
            with ShardWriter(f"{self.source}/{shard_name(i)}", fields) as writer:
                writer.write(self.rows[i * ROWS : (i + 1) * ROWS])
        begin = time.monotonic()
        self.finish(self.whole)
        self.hashes, self.seconds = hashes(self.whole), time.monotonic() - begin
        self.files = whole_files()

    @contextmanager
    def room(self) -> Iterator[Path]:
        """An empty folder that is removed afterwards."""
        room = self.folder / "room"
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir()
        yield room

    def finish(self, output: Path) -> None:
        """Run the dataset into a folder."""
        run_plain(plan_run(self.source, str(output), overrides=CHOSEN, update=True))

    def start(self, output: Path) -> subprocess.Popen[str]:
        """Run it in a process of its own."""
        command = [sys.executable, "-c", COMMAND, self.source, str(output), json.dumps(CHOSEN)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _schema(shard: str) -> Any:
    with open_shard(shard) as file:
        return file.schema_arrow


def hashes(output: Path) -> dict[str, str]:
    """The sha256 of every shard of a run, as its receipts say."""
    run = load_run(str(output))
    return {f"{s}/{n}": run.require_receipt(s, n, "").output_sha256 for s in run.stages for n in run.shards}


def bounded(read: Callable[[], object]) -> bool:
    """Whether something hostile was read; a refusal must be one short line, and both must be quick."""
    begin = time.process_time()
    try:
        read()
        told = None
    except UserError as error:
        told = str(error)
    assert time.process_time() - begin < SECONDS, f"took {time.process_time() - begin:.0f} s of the processor"
    assert told is None or (len(told) <= MAX_LETTERS and told.isprintable()), f"is no short line: {told!r:.200}"
    return told is None


def parameters(bench: Bench, places: random.Random) -> None:
    """A parameter file or a setting with damaged bytes or hostile values."""
    name, load = places.choice((("params.yaml", load_params), ("toy.yaml", load_toy_params)))
    text = Path(name).read_text()
    if places.random() < 0.5:
        values = yaml.safe_load(text)
        section = places.choice(sorted(values))
        value = places.choice(HOSTILE)
        bounded(lambda: load(overrides=parse_settings([f"{section}={value}", f"{section}.a.b={value}"])))
        text = text.replace(places.choice(text.splitlines()), f"{section}: {value}", 1)
    with bench.room() as room:
        (room / name).write_bytes(mutate(text.encode(), places))
        bounded(lambda: load(room / name))


def rewrite_header(data: bytes, places: random.Random) -> bytes:
    """A safetensors file whose header, the card in it included, has other values."""
    length = struct.unpack("<Q", data[:8])[0]
    header = mutate(data[8 : 8 + length], places, most=2)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def checkpoints(bench: Bench, places: random.Random) -> None:
    """A checkpoint of any kind with damaged bytes, or with a card that says something else."""
    with bench.room() as room:
        name = places.choice(sorted(bench.files))
        (room / name).write_bytes(mutate(bench.files[name], places))
        bounded(lambda: open_checkpoint(room / name).load())
        bounded(lambda: load_checkpoint(room / name))
        (room / "g.safetensors").write_bytes(rewrite_header((MODELS / "digits.safetensors").read_bytes(), places))
        bounded(lambda: load_generator(room / "g.safetensors"))


def directions(bench: Bench, places: random.Random) -> None:
    """A file of directions, ours or published."""
    vector = np.random.default_rng(places.randrange(1 << 30)).normal(size=(1, 16)).astype(np.float32)
    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, vector)
    np.savez_compressed(archive, comp=vector, std=vector)
    files = {"a.npy": array.getvalue(), "a.npz": archive.getvalue(), "a.pt": saved(torch.from_numpy(vector))}
    with bench.room() as room:
        for name, data in files.items():
            (room / name).write_bytes(mutate(data, places))
            bounded(lambda path=room / name: read_arrays(path))  # type: ignore[misc]
        whole = (MODELS / "directions.safetensors").read_bytes()
        (room / "d.safetensors").write_bytes(rewrite_header(whole, places))
        bounded(lambda: load_directions(room / "d.safetensors"))


def pictures(bench: Bench, places: random.Random) -> None:
    """A picture with damaged bytes is decoded or rejected with a status."""
    data = mutate(places.choice(bench.rows)["image"]["bytes"], places)
    try:
        bounded(lambda: decode_image(data, MAX_PIXELS))
    except ImageError as error:
        assert error.status and len(error.reason) <= MAX_LETTERS


def datasets(bench: Bench, places: random.Random) -> None:
    """An archive of pictures, the JSON beside them or the archive damaged: imported whole, or refused."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for i, row in enumerate(bench.rows):
            points = [] if row["landmarks"] is None else np.asarray(row["landmarks"], float).tolist()
            sidecar = json.dumps({"landmarks": points})
            spoiled = mutate(sidecar.encode(), places) if places.random() < 0.5 else sidecar.encode()
            for name, data in ((f"{i}.png", row["image"]["bytes"]), (f"{i}.json", spoiled)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    damaged = places.random() < 0.5
    with bench.room() as room:
        (room / "in").mkdir()
        (room / "in/a.tar").write_bytes(mutate(file.getvalue(), places) if damaged else file.getvalue())
        if bounded(lambda: import_dataset(str(room / "in"), str(room / "out"))) and not damaged:
            rows = [row for shard in list_shards(str(room / "out")) for part in read_rows(shard) for row in part]
            assert len(rows) == len(bench.rows), f"{len(rows)} rows of {len(bench.rows)} pictures"


def run_folders(bench: Bench, places: random.Random) -> None:
    """A finished run with a file damaged, removed or replaced by a folder: mended or refused, nothing else touched."""
    with bench.room() as room:
        output = room / "run"
        shutil.copytree(bench.whole, output)
        (room / "other.parquet").write_bytes(b"not ours")
        path = places.choice(sorted(p for p in output.rglob("*") if p.is_file()))
        data = path.read_bytes()
        path.unlink()
        kind = places.choice(("mutate", "mutate", "mutate", "folder", "gone", "empty"))
        if kind == "folder":
            path.mkdir()
        elif kind != "gone":
            path.write_bytes(mutate(data, places) if kind == "mutate" else b"")
        where = f"{path.relative_to(output)} ({kind})"
        try:
            bounded(lambda: list(describe(str(output))))
            if bounded(lambda: bench.finish(output)):
                assert hashes(output) == bench.hashes, "other hashes than those of the undisturbed run"
        except Exception as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {str(error)[:200]}") from error
        assert (room / "other.parquet").read_bytes() == b"not ours", f"{where}: a file outside was changed"


def kills(bench: Bench, places: random.Random) -> None:
    """A run that is killed at any moment, also before its first file, is continued to the same hashes."""
    with bench.room() as room:
        process = bench.start(room / "run")
        time.sleep(places.uniform(0, 1.5 * bench.seconds + 5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        bench.finish(room / "run")
        assert hashes(room / "run") == bench.hashes, "other hashes than those of the undisturbed run"
        assert not (left := [str(p) for p in (room / "run").rglob("*.tmp")]), f"left behind: {left}"


def pairs(bench: Bench, places: random.Random) -> None:
    """Of two identical commands at once one ends well, and the other does or says in a line who is at work."""
    with bench.room() as room:
        first = bench.start(room / "run")
        time.sleep(places.choice((0, 0, 1.0, bench.seconds)))
        second = bench.start(room / "run")
        told = [process.communicate(timeout=PATIENCE_S)[1].strip() for process in (first, second)]
        codes = [first.returncode, second.returncode]
        assert 0 in codes, f"both died: {told[0][-200:]!r}, {told[1][-200:]!r}"
        assert all(
            code == 0 or (text.startswith("error: ") and "\\n" not in text)
            for code, text in zip(codes, told, strict=True)
        ), told
        assert hashes(room / "run") == bench.hashes, "other hashes than those of the undisturbed run"


def children(bench: Bench, places: random.Random) -> None:
    """The processes of a run with ``run.runner=processes`` end with it when it alone is killed."""
    with bench.room() as room:
        chosen = [f"--set={name}={json.dumps(value)}" for name, value in (CHOSEN | {"run.workers": 2}).items()]
        command = [sys.executable, "-m", "flows.cli", "run", bench.source, str(room / "run")]
        command += [*chosen, "--set=run.runner=processes", f"--set=track.uri=sqlite:///{room}/mlflow.db"]
        log = (room / "log").open("w")
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while (
                process.poll() is None and not list(room.glob("run/*/*.receipt.json")) and time.monotonic() < deadline
            ):
                time.sleep(0.05)
            time.sleep(places.uniform(0, 1))
            process.kill()
            process.wait()
            time.sleep(5)
            assert not (alive := in_session(process.pid)), f"{len(alive)} processes go on without their parent"
        finally:
            for pid in in_session(process.pid):
                os.kill(pid, signal.SIGKILL)


def in_session(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, owner = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(owner) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


TRIALS: dict[str, tuple[Callable[[Bench, random.Random], None], int]] = {
    "parameter files": (parameters, 8),
    "checkpoints": (checkpoints, 8),
    "directions": (directions, 8),
    "pictures": (pictures, 20),
    "datasets": (datasets, 4),
    "run folders": (run_folders, 2),
    "kills": (kills, 1),
    "pairs": (pairs, 1),
    "children": (children, 1),
}
"""By promise: a trial, and how many of it there are in a round."""
