"""How well portraits are inverted and edited: ``python -m benchmarks.inversion_quality``.

256 held-out toy portraits are encoded, tuned, edited and measured by the stages of a run. Each is edited by the default
strength to the side where its attribute has room (its true value decides: + in the lower half of the range, - in the
upper). ``attribute_move`` is the smallest over the three edits of the mean move that the attribute regressor sees, as a
share of the range; ``identity_kept`` is the smallest of the mean identity score after the edit over that before it.
``fid_floor_multiple`` is the distance of generated to held-out portraits over that of held-out to other held-out ones.

``--images N --skip-fid`` is the quick form; ``--set tune.lr=0.003`` (again and again) tries other parameters;
``tune_seconds`` are CPU seconds an image.
"""

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache, reduce
from itertools import repeat
from multiprocessing import get_context
from typing import Any

import torch
import yaml
from pandas import DataFrame
from torch import Tensor

from benchmarks.harness import print_result
from gan_core.edits.direction import edit_column
from gan_core.judges.networks import load_network
from gan_core.loading import load_generator
from gan_core.metrics.base import State
from gan_core.metrics.frechet import FrechetInceptionDistance, frechet_distance, gather
from gan_core.params import Params, load_params
from gan_core.rows import Rejected, Row
from gan_core.runs.stage import Stage, build_stage
from gan_core.storage.images import encode_png, image_value, to_uint8
from gan_core.toy.params import load_toy_params
from gan_core.toy.renderer import FACTOR_NAMES, FACTORS, render, sample_factors

EDITS = ("smile", "yaw", "hair_lightness")
STAGES = ("encode", "tune", "edit", "measure")
BATCH = 8
FLOOR_IMAGES, FLOOR_BATCH, FLOOR_FIRST = 2048, 128, 100_000


@cache
def chain(changes: tuple[str, ...]) -> tuple[Params, list[Stage]]:
    """Return the parameters, with each edit to both sides, and the stages that they build; once a process."""
    edits = [{"direction": name, "strengths": [-1.0, 1.0]} for name in EDITS]
    pairs = (change.split("=", 1) for change in changes)
    overrides = {key: yaml.safe_load(value) for key, value in pairs}
    params = load_params(overrides={"edits": edits, "tune.enabled": True, "run.device": "cpu"} | overrides)
    return params, [build_stage(name, params, "") for name in STAGES]


def held_out(first: int, count: int) -> Tensor:
    """Return factors ``[count, F]`` of portraits that nothing was trained on."""
    seed = load_toy_params().portraits.held_out_seed + first
    return sample_factors(range(seed, seed + count))


def examine(first: int, count: int, changes: tuple[str, ...]) -> list[Row]:
    """Take held-out portraits through the stages; return their scores and true factors."""
    factors = held_out(first, count)
    rows: list[Row] = [
        {"key": f"portrait-{first + i}", "image": image_value(encode_png(pixels), "")}
        for i, pixels in enumerate(to_uint8(render(factors).image))
    ]
    stages = chain(changes)[1]
    seconds = {}
    for stage in stages:
        started = time.process_time()
        results = stage.process(rows)
        seconds[stage.name] = (time.process_time() - started) / count
        for row, columns in zip(rows, results, strict=True):
            if isinstance(columns, Rejected):
                raise RuntimeError(f"{stage.name} refuses {row['key']}: {columns.reason}")
            row |= columns
    fields = stages[-1].fields
    scores = [{f.name: float(row[f.name]) for f in fields} | {"tune_seconds": seconds["tune"]} for row in rows]
    truth = [dict(zip(FACTOR_NAMES, values, strict=True)) for values in factors.tolist()]
    return [score | true for score, true in zip(scores, truth, strict=True)]


def examine_all(pool: ProcessPoolExecutor, images: int, changes: tuple[str, ...]) -> Iterator[Row]:
    """Examine all portraits, saying how far it is."""
    starts = range(0, images, BATCH)
    counts = [min(BATCH, images - first) for first in starts]
    done = 0
    for rows in pool.map(examine, starts, counts, repeat(changes)):
        yield from rows
        done += len(rows)
        print(f"\r{done} of {images} portraits", end="", flush=True)
    print()


def edit_scores(rows: DataFrame, name: str) -> dict[str, float]:
    """Average the edit ``name`` over rows, each edited to the side where it has room."""
    factor = FACTORS[FACTOR_NAMES.index(name)]
    room = rows[name] < (factor.low + factor.high) / 2
    up, down = edit_column(name, 1.0), edit_column(name, -1.0)
    move = rows[f"{name}/{up}"].where(room, -rows[f"{name}/{down}"]).mean()
    after = rows[f"identity/toy/{up}"].where(room, rows[f"identity/toy/{down}"]).mean()
    other = rows[f"side_effect/{up}"].where(room, rows[f"side_effect/{down}"]).mean()
    return {"move": move, "identity_kept": after / rows["identity/toy/tuned"].mean(), "side_effect": other}


@torch.no_grad()
def statistics_of_portraits(first: int) -> State:
    """Return feature statistics of ``FLOOR_BATCH`` held-out portraits."""
    return features(render(held_out(first, FLOOR_BATCH)).image)


@torch.no_grad()
def statistics_of_generated(seed: int) -> State:
    """Return feature statistics of ``FLOOR_BATCH`` pictures of the generator, latents not truncated."""
    generator = load_generator(load_params().models.generator).model
    z = torch.randn(FLOOR_BATCH, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    return features(generator.synthesis(generator.broadcast(generator.mapping(z))).clamp(-1, 1))


def features(images: Tensor) -> State:
    """Return the statistics that ``fid/toy-attr`` compares."""
    network: Any = load_network(load_params().models.attributes, "attributes").model
    return gather(network.features(images).numpy())


def floor_multiple(pool: ProcessPoolExecutor) -> float:
    """Return FID(generated, held-out) over FID(held-out, other held-out)."""
    starts = range(FLOOR_FIRST, FLOOR_FIRST + FLOOR_IMAGES, FLOOR_BATCH)
    more = range(starts.stop, starts.stop + FLOOR_IMAGES, FLOOR_BATCH)
    merge = FrechetInceptionDistance.merge
    real, other = (reduce(merge, pool.map(statistics_of_portraits, part)) for part in (starts, more))
    made = reduce(merge, pool.map(statistics_of_generated, starts))
    floor, distance = frechet_distance(real, other), frechet_distance(real, made)
    print(f"fid/toy-attr of {FLOOR_IMAGES}: generated {distance:.3f}, held-out against held-out {floor:.3f}")
    return distance / floor


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--skip-fid", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        multiple = {} if options.skip_fid else {"fid_floor_multiple": floor_multiple(pool)}
        rows = DataFrame(list(examine_all(pool, options.images, tuple(options.set))))
    mean = rows.mean()
    for name in ("mse", "psnr", "lpips/toy", "identity/toy"):
        print(f"{name:13} encoded {mean[f'{name}/encoded']:8.4f}   tuned {mean[f'{name}/tuned']:8.4f}")
    edits = DataFrame({name: edit_scores(rows, name) for name in EDITS}).T
    print(edits.round(3).to_string())
    print_result(
        mse_ratio=mean["mse/encoded"] / mean["mse/tuned"],
        lpips_ratio=mean["lpips/toy/encoded"] / mean["lpips/toy/tuned"],
        psnr_tuned=mean["psnr/tuned"],
        identity_encoded=mean["identity/toy/encoded"],
        identity_tuned=mean["identity/toy/tuned"],
        attribute_move=edits["move"].min(),
        identity_kept=edits["identity_kept"].min(),
        tune_seconds=mean["tune_seconds"],
        **multiple,
    )


if __name__ == "__main__":
    main()
