"""Which layers, rate, steps, precision and batch tuning should have: ``python -m benchmarks.pti_sweep``.

Each line is ``params.yaml`` with one change, over the same held-out portraits: CPU seconds an image on one thread,
scores of the pictures drawn with the packed differences, what edits keep, and kilobytes an image. ``--only TEXT`` picks
lines. Then comes what low-rank differences could give: the same ones cut to a rank by their singular values, with the
bytes of int8 factors, and the time of a step that moves no weights, which no step with low-rank offsets can be below.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import print_result
from benchmarks.pti import run_ours
from benchmarks.tuning import Meter, Portraits, drawn_by, editability, held_out_portraits, quality
from gan_core.inversion.delta import pack_full, unpack_delta
from gan_core.inversion.objective import objective
from gan_core.inversion.pti import in_precision
from gan_core.params import TuneParams, load_params
from gan_core.precision import keep_freed_memory

CHANGES: list[dict[str, Any]] = [
    {},
    {"min_resolution": 4, "lr": 0.001},
    {"min_resolution": 16, "lr": 0.002},
    {"min_resolution": 64},
    {"lr": 0.002},
    {"lr": 0.01},
    {"lr_rampdown": 0.5},
    {"betas": (0.9, 0.999)},
    {"steps": 40},
    {"steps": 160},
    {"l2_weight": 1.0},
    {"precision": "fast"},
    {"precision": "exact", "batch_size": 1},
    {"precision": "exact", "batch_size": 16},
    {"locality_weight": 0.1, "locality_alpha": 11.0},
]
RANKS = (1, 2, 4, 8, 16)


def cut_to_rank(delta: Mapping[str, Tensor], rank: int) -> tuple[dict[str, Tensor], int]:
    """Return differences whose convolutions have at most ``rank``, and the bytes of int8 factors of all of them."""
    found, size = {}, 0
    for name, difference in delta.items():
        matrix = difference.reshape(difference.shape[1], -1) if difference.ndim == 5 else difference.reshape(1, -1)
        if min(matrix.shape) > rank:
            u, s, v = torch.linalg.svd(matrix, full_matrices=False)
            matrix = (u[:, :rank] * s[:rank]) @ v[:rank]
            size += rank * sum(matrix.shape)
        else:
            size += matrix.numel()
        found[name] = matrix.reshape(difference.shape)
    return found, size


@torch.no_grad()
def print_ranks(portraits: Portraits, full: Sequence[bytes]) -> None:
    """Print the scores of pictures drawn with differences of low rank."""
    for rank in RANKS:
        cut = [cut_to_rank(unpack_delta(data), rank) for data in full]
        scores = quality(portraits, drawn_by(portraits, [pack_full(delta) for delta, _ in cut]))
        size = sum(size for _, size in cut) / len(cut) / 1e3
        print(f"rank {rank:<35} lpips {scores['lpips']:.5f}  psnr {scores['psnr']:.2f}  {size:.0f} kB", flush=True)


def seconds_without_weights(portraits: Portraits, params: TuneParams, steps: int = 5) -> float:
    """Time a step an image that goes forward and back through the tuned layers with shared, frozen weights."""
    generator, pivots, targets = in_precision(portraits.generator, params), portraits.pivots, portraits.images
    with torch.no_grad():
        below = generator.lower(pivots, params.min_resolution)
    with Meter() as meter:
        for _ in range(steps):
            moved = tuple(part.clone().requires_grad_(True) for part in below)
            images = generator.upper(moved, pivots, params.min_resolution)
            objective(images, targets, portraits.loss, params)[0].sum().backward()
    return meter.seconds / steps / len(pivots)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    params = load_params()
    portraits = held_out_portraits(params, options.images)
    lowest: dict[str, float] = {}
    for change in CHANGES:
        name = ", ".join(f"{key} {value}" for key, value in change.items()) or "params.yaml"
        if options.only not in name:
            continue
        run = run_ours(portraits, params.tune.model_copy(update=change))
        edits = editability(portraits, run["packed"])
        scores = (
            f"lpips {run['lpips']:.5f}  mse {run['mse']:.5f}  psnr {run['psnr']:.2f}  identity {run['identity']:.3f}"
        )
        kept = f"move {edits['move']:.2f}  kept {edits['identity_kept']:.3f}"
        print(f"{name:40} {run['seconds']:5.2f} s  {scores}  {kept}  {run['bytes'] / 1e3:.0f} kB", flush=True)
        lowest[name] = run["mse"]
        if not change:
            print_ranks(portraits, run["full"])
            bound = seconds_without_weights(portraits, params.tune) / run["step_seconds"]
            print(f"a step that moves no weights takes {bound:.2f} of one that does", flush=True)
    best = min(lowest, key=lambda name: lowest[name])
    print(f"lowest mse: {best}")
    print_result(lines=len(lowest), lowest_mse=lowest[best])


if __name__ == "__main__":
    main()
