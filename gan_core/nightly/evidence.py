"""The numbers of a finished run that nights are compared by, each with its noise and its change row by row."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import islice
from typing import Annotated

import numpy as np
import pandas as pd
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field

from gan_core.device import compute_on, fetch
from gan_core.errors import DataError
from gan_core.judges.extractors import EXTRACTORS
from gan_core.metrics.base import ALIGNED, ENCODED
from gan_core.metrics.noise import bootstrap_error, frechet_of, mean_of, project_patches, sliced_of
from gan_core.metrics.statistics import merge_all
from gan_core.metrics.swd import hash_keys
from gan_core.nightly.history import REJECTED, ROWS, SPEED, Measured
from gan_core.nightly.kept import Change, KeptRows, compare, keep_set, read_kept, write_kept
from gan_core.nightly.speed import time_stage
from gan_core.pages.rows import read_fine_scores
from gan_core.rows import Row
from gan_core.runs.run import Run
from gan_core.runs.stage import build_stage
from gan_core.runs.summary import load_summary
from gan_core.secrets import hide
from gan_core.stages.align import ENCODER_INPUT
from gan_core.stages.measure import match_sizes
from gan_core.storage.atomic import remove, write_bytes
from gan_core.storage.images import decode_image, to_tensor
from gan_core.storage.receipts import read_json, read_statistics
from gan_core.storage.shards import open_shard, read_rows
from gan_core.storage.urls import base_name, join_url, names_in

NOISE_FILE = "noise.json"
ROWS_FILE = re.compile(r"rows-[0-9a-f]{16}\.npz")
SLICED = "swd/mean/encoded"
MAX_ROWS = 2048
"""Rows whose features are worked out, and kept, for an FID: 16 MB with the 2,048 features of Inception."""
MAX_SCORES = 20_000
"""Rows whose scores are kept: 24 bytes each."""
TIMED_ROWS = 16
MAX_PIXELS = 1 << 24
BATCH = 64
Sets = Callable[[str], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""By the name of a distance: hashes of its rows' keys, and what it compares of their aligned and encoded pictures."""


@dataclass(frozen=True)
class Evidence:
    """The numbers of a night and why others were left out.

    ``rows`` is the digest under which the night's rows are kept, ``reference`` that of the rows that they were compared
    with; empty where there were none.
    """

    measured: dict[str, Measured]
    rows: str
    reference: str = ""
    omitted: dict[str, str] = field(default_factory=dict)


class Noise(BaseModel):
    """What ``noise.json`` holds: the errors of the numbers of the results with this digest."""

    model_config = ConfigDict(strict=True)

    digest: str
    noise: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


def gather(run: Run, reference: str = "") -> Evidence:
    """Return FID, SWD and the scores of the encoder's pictures in a measured run, and the encoder's speed now.

    ``reference`` is the digest of an earlier night's rows: what changed since is told for each number, over the rows
    that both have. Noise and rows are kept beside the run, and used again while the shards are the same. Numbers that
    the run has too few rows for are left out. Raises ``DataError`` for a run that isn't measured to the end, and if no
    row could be measured.
    """
    summary, scores = load_summary(run.output), _scores(run)
    metrics, left_out = summary["metrics"], summary["omitted"]
    rows = Counter(summary["rows"])
    if not rows["ok"]:
        said = ", ".join(f"{count} {status}" for status, count in rows.items())
        raise DataError(f"no row of {hide(run.source)} could be measured ({said}): see {hide(run.output)}")
    names = [name for name in metrics if _is_distance(name) or name in scores]
    digest, sets = _digest(run), cache(partial(_sets, run))
    noise = _noise(run, names, scores, digest, sets)
    changes = _changes(run, names, scores, digest, sets, reference)
    measured = {name: _measured(metrics[name], noise[name], (changes or {}).get(name)) for name in names}
    measured[ROWS] = Measured(value=rows.total(), noise=0.0, rows=rows.total())
    measured[REJECTED] = Measured(value=rows.total() - rows["ok"], noise=0.0, rows=rows.total())
    speed = time_stage(build_stage("encode", run.params, run.source), _timed_rows(run))
    if not speed.busy:
        measured[SPEED] = Measured(value=speed.value, noise=speed.noise)
    omitted = {name: why for name, why in left_out.items() if _is_distance(name)}
    omitted |= {SPEED: speed.busy} if speed.busy else {}
    return Evidence(measured, digest, "" if changes is None else reference, omitted)


def drop_rows(run_folder: str, needed: set[str]) -> None:
    """Remove the rows of nights that no later one is compared with."""
    kept = {base_name(_rows_file(run_folder, digest)) for digest in needed}
    for name in names_in(run_folder):
        if ROWS_FILE.fullmatch(name) and name not in kept:
            remove(join_url(run_folder, name))


def _measured(value: float, noise: float, change: Change | None) -> Measured:
    if change is None:
        return Measured(value=value, noise=noise)
    return Measured(value=value, noise=noise, change=change.change, error=change.error, rows=change.rows)


def _changes(
    run: Run, names: list[str], scores: pd.DataFrame, digest: str, sets: Sets, reference: str
) -> dict[str, Change] | None:
    """What has changed since the reference, by name; ``None`` if its rows can't be read. Keeps tonight's rows."""
    if reference == digest:
        return {name: Change(0.0, 0.0, len(scores)) for name in names}
    before = read_kept(_rows_file(run.output, reference)) if reference else None
    path = _rows_file(run.output, digest)
    now = read_kept(path)
    if now is None:
        now = _keep(names, scores, sets)
        write_kept(path, now)
    return compare(before, now) if before else None


def _rows_file(folder: str, digest: str) -> str:
    return f"{folder}/rows-{digest[:16]}.npz"


def _keep(names: list[str], scores: pd.DataFrame, sets: Sets) -> KeptRows:
    keys = hash_keys(scores.index)
    order = np.argsort(keys)[:MAX_SCORES]
    values = {n: scores[n].to_numpy(np.float32)[order] for n in names if n in scores}
    return KeptRows(keys[order], values, {n: _keep_set(n, *sets(n)) for n in names if n not in scores})


def _keep_set(name: str, keys: np.ndarray, one: np.ndarray, other: np.ndarray) -> dict[str, np.ndarray]:
    return keep_set(keys, *(project_patches(one, other) if name == SLICED else (one, other)))


def _scores(run: Run) -> pd.DataFrame:
    """The scores of the encoder's pictures of all rows that were measured, by key."""
    frames = [read_fine_scores(run, shard) for shard in run.shards]
    fine = pd.concat(frames, ignore_index=True).set_index("key")
    return fine[[name for name in map(str, fine) if name.endswith(f"/{ENCODED}")]]


def _timed_rows(run: Run) -> list[Row]:
    """The first fine rows with all that the encoder sees, and that a judge of its pictures compares them with."""
    with open_shard(run.shard("align", run.shards[0])) as file:
        seen = [name for name in (ENCODER_INPUT, "image") if name in file.schema_arrow.names]
    return list(_fine_rows(run, "align", ["key", "status", *seen], TIMED_ROWS))


def _is_distance(name: str) -> bool:
    return name == SLICED or (name.startswith("fid/") and name.endswith(f"/{ENCODED}"))


def _noise(run: Run, names: list[str], scores: pd.DataFrame, digest: str, sets: Sets) -> dict[str, float]:
    path = run.path(NOISE_FILE)
    known = _read_noise(path)
    if known is None or known.digest != digest or known.noise.keys() != set(names):
        known = Noise(digest=digest, noise={name: _noise_of(name, scores, sets) for name in names})
        write_bytes(path, json.dumps(known.model_dump(), indent=1).encode())
    return known.noise


def _read_noise(path: str) -> Noise | None:
    try:
        return Noise.model_validate(read_json(path))
    except (FileNotFoundError, ValueError):
        return None


def _digest(run: Run) -> str:
    """Return a hash of all shards and their statistics, in which alone a change of a distance's network shows."""
    receipts = [run.require_receipt(stage, shard) for stage in run.stages for shard in run.shards]
    made = "".join(f"{receipt.output_sha256}{receipt.statistics_sha256 or ''}" for receipt in receipts)
    return hashlib.sha256(made.encode()).hexdigest()


def _noise_of(name: str, scores: pd.DataFrame, sets: Sets) -> float:
    if name in scores:
        return bootstrap_error(mean_of(scores[name].to_numpy(np.float64)), len(scores))
    _, one, other = sets(name)
    if name == SLICED:
        return bootstrap_error(sliced_of(one, other), len(one))
    return float(bootstrap_error(frechet_of(one, other), len(one)) * (len(one) / len(scores)) ** 0.5)


def _sets(run: Run, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Do as ``Sets`` says: pictures of the rows in an SWD's sample, else features of at most ``MAX_ROWS`` rows.

    The latter are those whose keys hash lowest.
    """
    if name == SLICED:
        states = merge_all(read_statistics(shard) for shard in run.stage_shards("measure"))["swd"]
        return states[ALIGNED]["hash"], states[ALIGNED]["image"], states[ENCODED]["image"]
    keys = [row["key"] for row in _fine_rows(run, "measure", ["key", "status"])]
    wanted = {keys[i] for i in np.argsort(hash_keys(keys))[:MAX_ROWS]}
    extractor = name.split("/")[1]
    one, other = _features(run, extractor, wanted)
    return hash_keys([key for key in keys if key in wanted]), one, other


def _features(run: Run, extractor: str, wanted: set[str]) -> list[np.ndarray]:
    """Features ``[N, D]`` of the aligned and the encoder's pictures of the wanted rows, in the order of the shards."""
    columns = {ALIGNED: ("align", "image"), ENCODED: ("encode", "reconstruction")}
    pictures = zip(*(_pictures(run, *place, wanted) for place in columns.values()), strict=True)
    with compute_on(run.params.run.device):
        network, parts = EXTRACTORS.get(extractor)(run.params.models), []
        while batch := list(islice(pictures, BATCH)):
            images = match_sizes(dict(zip(columns, map(to_tensor, zip(*batch, strict=True)), strict=True)))
            parts.append([fetch(network.features(images[name])) for name in columns])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _pictures(run: Run, stage: str, column: str, wanted: set[str]) -> Iterator[Image]:
    for row in _fine_rows(run, stage, ["key", "status", column]):
        if row["key"] in wanted:
            yield decode_image(row[column]["bytes"], MAX_PIXELS)


def _fine_rows(run: Run, stage: str, columns: list[str], most: int | None = None) -> Iterator[Row]:
    seen = 0
    for shard in run.stage_shards(stage):
        for rows in read_rows(shard, columns):
            for row in rows:
                if row["status"] == "ok" and (most is None or seen < most):
                    seen += 1
                    yield row
