"""Which layers, rate, steps, precision and batch tuning should have: ``python -m benchmarks.pti_sweep``.

Each line is ``params.yaml`` with one change, over the same held-out portraits: CPU seconds an image on one thread,
scores of the pictures drawn with the packed differences, what edits keep, and kilobytes an image. ``--only TEXT`` picks
lines.
"""

import argparse
from typing import Any

import torch

from benchmarks.harness import print_result
from benchmarks.pti import run_ours
from benchmarks.tuning import editability, held_out_portraits
from gan_core.params import load_params
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
    best = min(lowest, key=lambda name: lowest[name])
    print(f"lowest mse: {best}")
    print_result(lines=len(lowest), lowest_mse=lowest[best])


if __name__ == "__main__":
    main()
