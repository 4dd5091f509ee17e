"""A small finished run, made up: pictures are noise, scores are near those of a good run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gan_core.params import check_params
from gan_core.rows import Row
from gan_core.runs.run import Run, begin_run
from gan_core.storage.atomic import write_bytes
from gan_core.storage.images import encode_png, image_value
from gan_core.storage.receipts import Receipt, canonical_json, write_receipt
from gan_core.storage.shards import IMAGE, ShardWriter, shard_name

EDITS = {"smile@-1": ("smile", -0.5), "smile@+1": ("smile", 0.5), "yaw@+1": ("yaw", 26.0)}
HOSTILE = '<script>alert("k")</script>&\'"/\u202eevil'
FAULTS = (
    ("bad/truncated.png", "truncated", "the image data ends early", b"\x89PNG\r\n\x1a\nbroken"),
    (HOSTILE, "no_face", "no face <b>at all</b> was found", None),
)
SCORES = {
    "encoded": {"mse": 0.04, "psnr": 20.0, "lpips/toy": 0.2, "identity/toy": 0.7},
    "tuned": {"mse": 0.004, "psnr": 31.0, "lpips/toy": 0.04, "identity/toy": 0.95},
}


def draw(seeds: Sequence[int]) -> dict[str, dict[str, list[bytes]]]:
    """Make up every picture that a run would hold, by stage and column: noise, another for each seed and column."""
    columns = {"source": ["image"], "align": ["image"], "encode": ["reconstruction"], "tune": ["tuned"], "edit": EDITS}
    return {
        stage: {name: [noise(f"{stage}/{name}/{seed}") for seed in seeds] for name in names}
        for stage, names in columns.items()
    }


def noise(name: str) -> bytes:
    random = np.random.default_rng(list(name.encode()))
    return encode_png(random.integers(0, 256, (12, 12, 3), np.uint8))


def scores_of(seed: int, run: Run) -> Row:
    random = np.random.default_rng(seed)
    pictures = [p for p in SCORES if p == "encoded" or "tune" in run.stages]
    last = pictures[-1]
    found = {f"{m}/{p}": v * random.uniform(0.9, 1.04) for p in pictures for m, v in SCORES[p].items()}
    for name, (attribute, by) in EDITS.items():
        found[f"{attribute}/{name}"] = (0.5 if by > 0 else -0.5) * random.uniform(0.5, 1.1)
        found[f"identity/toy/{name}"] = found[f"identity/toy/{last}"] * random.uniform(0.85, 1)
        found[f"side_effect/{name}"] = random.uniform(0, 0.1)
    return found


def write_stage(
    url: str, stage: str, columns: dict[str, pa.DataType], rows: Sequence[Row], identity: dict[str, Any]
) -> None:
    with ShardWriter(url, [pa.field(name, kind) for name, kind in columns.items()]) as writer:
        writer.write(rows)
    receipt = Receipt(
        stage=stage,
        key="0" * 64,
        input_keys={},
        output_sha256=writer.sha256,
        rows=dict(writer.statuses),
        seconds=2.5,
        code_version="test",
        identity=identity,
    )
    write_receipt(url, receipt)


def write_shard(run: Run, shard: str, seeds: Sequence[int]) -> None:
    """Write the source and all stages of one shard: a portrait for each seed, then the two faults."""
    pictures = draw(seeds or [0])
    last = {s: {"stage": s, "status": "ok", "reason": ""} for s in ("source", *run.stages)}
    for stage in last:
        columns = {name: IMAGE for name in pictures.get(stage, {})}
        rows: list[Row] = []
        for i, seed in enumerate(seeds):
            images = {name: image_value(found[i], f"{seed}.png") for name, found in pictures.get(stage, {}).items()}
            rows.append({"key": f"portraits/{seed}.png", **last[stage], **images})
            if stage == "measure":
                rows[-1] |= scores_of(seed, run)
        floats = {name: pa.float32() for name in scores_of(0, run)} if stage == "measure" else {}
        rows += [fault(stage, *f, picture=pictures["source"]["image"][0]) for f in FAULTS]
        folder = run.source if stage == "source" else f"{run.output}/{stage}"
        write_stage(f"{folder}/{shard}", stage, columns | floats, rows, run.identities.get(stage, {}))


def fault(stage: str, key: str, status: str, reason: str, data: bytes | None, picture: bytes) -> Row:
    if stage == "source":
        return {"key": key, "status": "ok", "reason": "", "stage": stage, "image": image_value(data or picture, key)}
    return {"key": key, "status": status, "reason": reason, "stage": "align"}


def make_job(folder: Path, shards: int, seeds_each: int, **params: Any) -> Run:
    edits = [{"direction": "smile", "strengths": [-1, 1]}, {"direction": "yaw", "strengths": [1]}]
    rows = {shard_name(i): seeds_each + len(FAULTS) for i in range(shards)}
    plan = [{"column": name, "strength": 1.0, "layers": [0, 4]} for name in EDITS]
    checked = check_params({"edits": edits, **params})
    stages = [s for s in ("align", "encode", "tune", "edit", "measure") if s != "tune" or checked.tune.enabled]
    identities = {name: {"plan": plan} if name == "edit" else {"stage": name} for name in stages}
    return Run(checked, str(folder / "portraits"), str(folder / "run"), rows, identities)


def make_run(folder: Path, shards: int = 2, seeds_each: int = 3, **params: Any) -> Run:
    """Write a whole run below ``folder`` and return its run."""
    run = make_job(folder, shards, seeds_each, **params)
    begin_run(run)
    for i, shard in enumerate(run.shards):
        write_shard(run, shard, range(100 * i, 100 * i + seeds_each))
    totals = {"fid/toy-attr/tuned": 3.217, "fid/toy-attr/encoded": 20.1, "swd/mean/tuned": 12.5, "mse/tuned": 0.0037}
    omitted = {f"fid/toy-attr/yaw@{strength}": "needs more than 64 rows" for strength in ("+1", "-1")}
    summary = {"metrics": totals, "omitted": omitted, "rows": {"ok": 6}}
    write_bytes(f"{run.output}/summary.json", canonical_json(summary).encode())
    return run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def run_maker() -> Callable[..., Run]:
    return make_run
