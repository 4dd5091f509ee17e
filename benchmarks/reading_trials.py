"""Trials of ``benchmarks.faults`` on what is read: what is damaged or hostile is read, or refused in a short line."""

import io
import json
import random
import shutil
import struct
import tarfile
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from benchmarks.fault_bench import CHOSEN, Bench, bounded
from benchmarks.hostile_files import mutate, mutate_json, saved
from flows.inspection import describe
from flows.publish import publish
from flows.servers import FOLDER, find
from flows.settings import parse_settings
from flows.status import describe_runs
from gan_core.align.landmarks import LANDMARK_SOURCES
from gan_core.checkpoints.arrays import read_arrays
from gan_core.checkpoints.containers import open_checkpoint
from gan_core.checkpoints.files import load_checkpoint
from gan_core.editing.directions import load_directions
from gan_core.errors import MAX_LETTERS
from gan_core.importers import import_dataset
from gan_core.importers.dataset import imported_from
from gan_core.judges.domain import Domain, Limit, read_domains
from gan_core.loading import load_generator
from gan_core.nightly.history import Entry, Measured, read_history
from gan_core.params import load_params
from gan_core.recipes.base import plan_run
from gan_core.rows import Rejected
from gan_core.runs.summary import find_summary
from gan_core.storage.images import MAX_PIXELS, ImageError, decode_image
from gan_core.storage.shards import list_shards, read_rows
from gan_core.toy.params import load_toy_params
from tasks.record import Record, read_record, read_tracked

MODELS = Path("data/models")
FORMATS = ("PNG", "PNG", "JPEG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
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
    image = Image.open(io.BytesIO(places.choice(bench.rows)["image"]["bytes"]))
    file = io.BytesIO()
    image.convert(places.choice(("RGB", "L"))).save(file, places.choice(FORMATS))
    data = mutate(file.getvalue(), places)
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


def spoil(content: Any, places: random.Random) -> bytes:
    """JSON with a hostile value in it, or with damaged bytes, or something else altogether."""
    if places.random() < 0.6:
        return json.dumps(mutate_json(content, places)).encode()
    if places.random() < 0.1:
        return places.choice((b"", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{}", b"9" * 5000))
    return mutate(json.dumps(content).encode(), places)


def landmarks(bench: Bench, places: random.Random) -> None:
    """FFHQ's JSON, CelebA's list or the JSON beside a picture: landmarks of that picture, or a status and a reason."""
    row = places.choice(bench.rows)
    data = row["image"]["bytes"]
    image = Image.open(io.BytesIO(data)).convert("RGB")
    sizes = [{"pixel_size": list(size), "file_path": f"{kind}/a.png"} for kind, size in enumerate((image.size, (9, 9)))]
    points = [[float(i % 60), float(i)] for i in range(60)] + [[1.5, 2.5]] * 8
    entry = {"in_the_wild": sizes[1], "image": sizes[0] | {"face_landmarks": points, "file_md5": ""}}
    lists = "1\nlefteye_x\n" + "a.png " + " ".join("12.5" for _ in range(10)) + "\n"
    files = {  # under new names: tables are read once
        f"{places.random()}.json": spoil({"0": entry, "1": entry}, places),
        f"{places.random()}.txt": mutate(lists.encode(), places),
    }
    with bench.room() as room:
        (room / "in").mkdir()
        (room / "in/a.png").write_bytes(data)
        (room / "in/a.json").write_bytes(spoil({"landmarks": points}, places))
        bounded(lambda: import_dataset(str(room / "in"), str(room / "out")))
        (imported,) = [row for shard in list_shards(str(room / "out")) for part in read_rows(shard) for row in part]
        bounded(lambda: judge("columns", "", imported, image))
        for name, content in files.items():
            (room / name).write_bytes(content)
            bounded(lambda path=room / name: judge("table", str(path), row | {"key": "a.png"}, image))  # type: ignore[misc]


def judge(source: str, checkpoint: str, row: Any, image: Image.Image) -> None:
    """Ask a source for landmarks; what it says of a row that it rejects is as short as an error."""
    found = LANDMARK_SOURCES.get(source)(checkpoint).landmarks(image, row)
    if isinstance(found, Rejected):
        assert found.status and len(found.reason) <= MAX_LETTERS and found.reason.isprintable(), found.reason[:600]
    else:
        assert found.shape in ((5, 2), (68, 2)) and found.dtype == np.float64


READERS: dict[str, Callable[[str], object]] = {
    "run.json": lambda run: (list(describe(run)), list(describe_runs(run))),
    "summary.json": lambda run: (list(describe(run)), find_summary(run)),
    "align/shard-00000.parquet.receipt.json": lambda run: (list(describe(run)), list(describe_runs(run))),
    "pending.json": read_record,
    "tracking.json": lambda run: (read_record(run, "tracking.json"), read_tracked(run)),
    "history.json": read_history,
    "domain.json": lambda run: read_domains(f"{run}/domain.json"),
    "dataset.json": imported_from,
    "mlflow.json": lambda run: find("mlflow"),
    "origin.json": lambda run: publish(run, "faces"),
}
"""By the name of a small file that is read back: who reads it, given the run that it lies in."""
NIGHT = Entry(date="2026-01-01", encoder="psp", dataset="in", measured={"fid": Measured(value=1, noise=1)}, rows="a")
RECORD = Record(
    digest="a",
    uri="b",
    experiment="c",
    name="d",
    started=1,
    ended=2,
    params={},
    metrics={"mse": 1},
    tags={},
    dataset={},
)
LIMIT = Limit(score="mse", limit=1, median=1, rows=100, false_positives=0.01)
GOOD: dict[str, Any] = {
    "pending.json": RECORD.model_dump(),
    "tracking.json": RECORD.model_dump() | {"run_id": "e"},
    "history.json": [NIGHT.model_dump()],
    "domain.json": [Domain(encoder_sha256="a", generator_sha256="b", source="c", limits=(LIMIT,)).model_dump()],
    "dataset.json": {"source": "d"},
    "mlflow.json": {"pid": 2, "port": 1, "command": ["python"]},
    "origin.json": {"run": "a", "stage": "edit", "files": ["shard-00000.parquet", "shard-00000.parquet.receipt.json"]},
}
"""What such files hold, where a run has none."""


def records(bench: Bench, places: random.Random) -> None:
    """A small file that is read back (of runs, nights, servers, imports, datasets): read or refused, others kept."""
    name = places.choice(sorted(READERS))
    with bench.room() as room, chdir(room):
        shutil.copytree(bench.whole, "run")
        folder = {"mlflow.json": FOLDER, "origin.json": Path("faces")}.get(name, Path("run"))
        folder.mkdir(exist_ok=True)
        (folder / "letter.txt").write_text("dear")
        content = GOOD[name] if name in GOOD else json.loads(Path("run", name).read_text())
        (folder / name).write_bytes(spoil(content, places))
        bounded(lambda: READERS[name]("run"))
        assert (folder / "letter.txt").read_text() == "dear", f"{name}: a file of others was changed"


def content(folder: Path) -> set[str]:
    """The names of what lies in a folder."""
    return {path.name for path in folder.iterdir()}


def names(bench: Bench, places: random.Random) -> None:
    """A long or odd name of a dataset, an output, a stage, a file, an encoder, a metric or a direction."""
    name = places.choice(("n" * 300, "é" * 200, "n" * 100_000, "a\nb", "a\0b", "..", ".", "", " ", "a::b", "s3:/"))
    whole, sample, project = str(bench.whole), bench.source, Path.cwd()
    with bench.room() as room, chdir(room):
        for needed in ("params.yaml", "data"):
            Path(needed).symlink_to(project / needed)
        asked: tuple[Callable[[], object], ...] = (
            lambda: plan_run(name, "out"),
            lambda: plan_run(sample, name, overrides=CHOSEN),
            lambda: plan_run(sample, f"{name}/{name}", overrides=CHOSEN).begin(),
            lambda: import_dataset(name, "out"),
            lambda: import_dataset(sample, name),
            lambda: list(describe(name)),
            lambda: list(describe_runs(name)),
            lambda: publish(whole, "faces", name),
            lambda: publish(whole, name),
            lambda: load_generator(name),
            lambda: load_directions(name),
            lambda: load_params(name),
            *(
                partial(plan_run, sample, "out", overrides=CHOSEN | {key: value})
                for key, value in (
                    ("models.encoder", name),
                    ("models.landmarks", name),
                    ("encode.encoder", name),
                    ("measure.metrics", [name]),
                    ("edits", [{"direction": name, "strengths": [1]}]),
                    ("run.deployment", name),
                    (name, 1),
                )
            ),
        )
        before = content(bench.folder)
        bounded(places.choice(asked))
        assert content(bench.folder) == before, f"{name[:80]!r}: something was written outside of the room"
