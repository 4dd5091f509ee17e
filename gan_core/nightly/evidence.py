"""The metrics of a finished run that are compared from night to night, each with its standard error."""

import hashlib
import json
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np
from PIL.Image import Image

from gan_core.device import compute_on, fetch
from gan_core.judges.extractors import EXTRACTORS, Extractor
from gan_core.metrics.base import ALIGNED, ENCODED
from gan_core.metrics.noise import bootstrap_error, frechet_of, mean_of, sliced_of
from gan_core.metrics.statistics import merge_all
from gan_core.nightly.history import SPEED, Measured
from gan_core.pages.rows import read_scores
from gan_core.rows import Row
from gan_core.runs.run import Run
from gan_core.runs.stage import build_stage
from gan_core.runs.summary import load_summary
from gan_core.storage.atomic import write_bytes
from gan_core.storage.images import decode_image, to_tensor
from gan_core.storage.receipts import read_statistics
from gan_core.storage.shards import read_rows
from gan_core.storage.urls import exists, read_bytes

NOISE_FILE = "noise.json"
SLICED = "swd/mean/encoded"
MAX_ROWS = 2048
TIMED_ROWS, TIMES = 16, 9
MAX_PIXELS = 1 << 24
BATCH = 64


def gather(run: Run) -> dict[str, Measured]:
    """Return FID, SWD and identity of the encoder's pictures in a measured run, and the encoder's speed now.

    The noise is stored beside the run, and reused while the shards are the same. Metrics for which the run has too few
    rows are left out. Raises ``DataError`` for a run that isn't measured completely.
    """
    metrics = load_summary(run.output)["metrics"]
    names = [name for name in metrics if name == SLICED or _is("fid", name) or _is("identity", name)]
    noise = _noise(run, names)
    return {name: Measured(value=metrics[name], noise=noise[name]) for name in names} | {SPEED: time_encoder(run)}


def time_encoder(run: Run, rows: int = TIMED_ROWS, times: int = TIMES) -> Measured:
    """Encode the first rows again, ``times`` times after a warm-up; return the median images/s and its noise."""
    stage = build_stage("encode", run.params, run.source)
    batch = list(_fine_rows(run, "align", ["key", "status", "image"], rows))
    speeds = []
    for _ in range(times + 1):
        begin = time.perf_counter()
        with compute_on(stage.compute):
            stage.process(batch)
        speeds.append(len(batch) / (time.perf_counter() - begin))
    sample = np.array(speeds[1:])
    middle = bootstrap_error(lambda weights: float(np.median(np.repeat(sample, weights))), len(sample))
    return Measured(value=float(np.median(sample)), noise=middle)


def _is(metric: str, name: str) -> bool:
    return name.startswith(f"{metric}/") and name.endswith(f"/{ENCODED}")


def _noise(run: Run, names: list[str]) -> dict[str, float]:
    path, digest = run.path(NOISE_FILE), _digest(run)
    known = json.loads(read_bytes(path)) if exists(path) else {}
    if known.get("digest") != digest or known["noise"].keys() != set(names):
        known = {"digest": digest, "noise": {name: _noise_of(run, name) for name in names}}
        write_bytes(path, json.dumps(known, indent=1).encode())
    noise: dict[str, float] = known["noise"]
    return noise


def _digest(run: Run) -> str:
    places = [(stage, shard) for stage in run.stages for shard in run.shards]
    receipts = [run.require_receipt(*place, "run it again").output_sha256 for place in places]
    return hashlib.sha256("".join(receipts).encode()).hexdigest()


def _noise_of(run: Run, name: str) -> float:
    if _is("identity", name):
        frames = (read_scores(run, shard) for shard in run.shards)
        scores = np.concatenate([f.loc[f["status"] == "ok", name].to_numpy(np.float64) for f in frames])
        return bootstrap_error(mean_of(scores), len(scores))
    if name == SLICED:
        parts = (read_statistics(shard) for shard in run.stage_shards("measure"))
        states = merge_all(parts)["swd"]
        real, fake = states[ALIGNED]["image"], states[ENCODED]["image"]
        return bootstrap_error(sliced_of(real, fake), len(real))
    one, other = (
        _features(run, name.split("/")[1], *place) for place in (("align", "image"), ("encode", "reconstruction"))
    )
    total = sum(1 for _ in _fine_rows(run, "measure", ["status"]))
    return float(bootstrap_error(frechet_of(one, other), len(one)) * (len(one) / total) ** 0.5)


def _features(run: Run, extractor: str, stage: str, column: str) -> np.ndarray:
    """Features ``[N, D]`` of one picture of the rows that were measured, at most ``MAX_ROWS``."""
    wanted = {row["key"] for row in _fine_rows(run, "measure", ["key", "status"], MAX_ROWS)}
    with compute_on(run.params.run.device):
        network = EXTRACTORS.get(extractor)(run.params.models)
        return np.concatenate(list(_parts(network, _pictures(run, stage, column, wanted))))


def _pictures(run: Run, stage: str, column: str, wanted: set[str]) -> Iterator[Image]:
    for row in _fine_rows(run, stage, ["key", "status", column]):
        if row["key"] in wanted:
            yield decode_image(row[column]["bytes"], MAX_PIXELS)


def _parts(network: Extractor, images: Iterator[Image]) -> Iterator[np.ndarray]:
    while part := list(islice(images, BATCH)):
        yield fetch(network.features(to_tensor(part)))


def _fine_rows(run: Run, stage: str, columns: list[str], most: int | None = None) -> Iterator[Row]:
    seen = 0
    for shard in run.stage_shards(stage):
        for rows in read_rows(shard, columns):
            for row in rows:
                if row["status"] == "ok" and (most is None or seen < most):
                    seen += 1
                    yield row
