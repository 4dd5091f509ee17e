"""Pivotal tuning over a dataset, against the plain loop: ``python -m benchmarks.pti``.

The loop is the published algorithm for one image at a time: float32, Adam at 3e-4 on all parameters, mean squared
error plus LPIPS, 350 steps. Ours is what ``params.yaml`` says, in batches, with ``--steps``, ``--lr`` and
``--precision`` laid over it. Both have the same held-out portraits, the same pivots, the same stop rule (LPIPS at most
``--stop``) and one thread; times are CPU seconds. Ours tunes all portraits; the loop, because it is slow, a random
sample of ``--loop-images`` of them, and all ratios compare the two on that sample. So does the table of edits, with and
without the locality term. ``--scaled N`` also times N steps of both on a 256 px generator with random weights.
"""

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import print_result
from benchmarks.tuning import Meter, Portraits, drawn_by, editability, held_out_portraits, quality
from gan_core.generators.base import Generator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.delta import pack_delta, pack_full
from gan_core.inversion.pti import tune_pivots
from gan_core.judges.perceptual import PerceptualLoss
from gan_core.params import TuneParams, load_params
from gan_core.precision import keep_freed_memory

Curve = list[tuple[float, float]]
LOOP_RATE = 3e-4


def published_loop(
    generator: Generator, pivot: Tensor, target: Tensor, loss: PerceptualLoss, steps: int, stop: float
) -> tuple[Generator, Curve]:
    """Tune a copy of the whole generator to one image; return it with mse and LPIPS at every step."""
    tuned, target = copy.deepcopy(generator).requires_grad_(True), target.clone()
    optimiser = torch.optim.Adam(tuned.parameters(), LOOP_RATE)
    curve: Curve = []
    for step in range(steps + 1):
        image = tuned.synthesis(pivot)
        error, distance = (image - target).square().mean(), loss(image, target).mean()
        curve.append((error.item(), distance.item()))
        if distance <= stop or step == steps:
            break
        optimiser.zero_grad()
        (error + distance).backward()
        optimiser.step()
    return tuned.requires_grad_(False), curve


def run_loop(portraits: Portraits, steps: int, stop: float) -> dict[str, Any]:
    """Take the loop through all portraits."""
    images, curves = [], []
    with Meter() as meter:
        for pivot, target in zip(portraits.pivots.split(1), portraits.images.split(1), strict=True):
            tuned, curve = published_loop(portraits.generator, pivot, target, portraits.loss, steps, stop)
            curves.append(curve)
            with torch.no_grad():
                images.append(tuned.synthesis(pivot))
    size = 4 * sum(weight.numel() for weight in portraits.generator.parameters())
    return summary(portraits, torch.cat(images), meter, curves) | {"bytes": size}


def run_ours(portraits: Portraits, params: TuneParams) -> dict[str, Any]:
    """Take the engine through all portraits; the pictures are drawn with the packed differences."""
    rows, tuned = len(portraits.images), []
    with Meter() as meter:
        for part in torch.arange(rows).split(params.batch_size):
            pivots, targets = portraits.pivots[part], portraits.images[part]
            tuned += tune_pivots(portraits.generator, pivots, targets, portraits.loss, params, part.tolist())
    packed = [pack_delta(result.delta) for result in tuned]
    curves = [[(step.l2, step.perceptual) for step in result.losses] for result in tuned]
    found = summary(portraits, drawn_by(portraits, packed), meter, curves)
    full = [pack_full(result.delta) for result in tuned]
    return found | {"bytes": sum(map(len, packed)) / rows, "packed": packed, "full": full}


def summary(portraits: Portraits, images: Tensor, meter: Meter, curves: list[Curve]) -> dict[str, Any]:
    """Scores of the pictures with what they cost an image."""
    rows = len(images)
    steps = sum(len(curve) - 1 for curve in curves)
    costs = {"seconds": meter.seconds / rows, "step_seconds": meter.seconds / max(steps, 1), "peak_mb": meter.peak_mb}
    return quality(portraits, images) | costs | {"steps": steps / rows, "curves": curves}


def mean_curve(run: dict[str, Any]) -> Tensor:
    """Mean mse and LPIPS at every step, ``[steps + 1, 2]``; rows that have stopped keep their last values."""
    longest = max(len(curve) for curve in run["curves"])
    return torch.tensor([curve + curve[-1:] * (longest - len(curve)) for curve in run["curves"]]).mean(0)


def print_curve(name: str, run: dict[str, Any]) -> None:
    """Print mean LPIPS and mse after so many seconds an image."""
    values = mean_curve(run)
    for step in sorted({round(share * (len(values) - 1)) for share in (0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1)}):
        mse, lpips = values[step].tolist()
        print(f"{name:6} {step * run['step_seconds']:7.2f} s   lpips {lpips:.5f}   mse {mse:.5f}", flush=True)


def seconds_until(run: dict[str, Any], lpips: float) -> float:
    """Seconds an image until the mean LPIPS is at most ``lpips``; infinite if it never is (its ratio is then 0)."""
    near = (mean_curve(run)[:, 1] <= lpips).nonzero()
    return int(near[0]) * run["step_seconds"] if len(near) else float("inf")


def chosen(portraits: Portraits, rows: Sequence[int]) -> Portraits:
    """Return the portraits at ``rows`` alone."""
    parts = {name: getattr(portraits, name)[list(rows)] for name in ("factors", "images", "pivots")}
    return replace(portraits, **parts)


def part_of(portraits: Portraits, run: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Return what a run over all portraits found for ``rows``, with their scores; costs stay those of the whole run."""
    part = chosen(portraits, rows)
    lists = {name: [run[name][row] for row in rows] for name in ("curves", "packed", "full")}
    return run | lists | quality(part, drawn_by(part, lists["packed"]))


def print_row(name: str, run: dict[str, Any]) -> None:
    """Print one line of the table."""
    print(
        f"{name:14} {3600 / run['seconds']:8.0f} images/h {run['steps']:6.1f} steps  lpips {run['lpips']:.5f}  "
        f"mse {run['mse']:.5f}  identity {run['identity']:.3f}  +{run['peak_mb']:.0f} MB  "
        f"{run['bytes'] / 1e3:.0f} kB/image"
    )


def scaled_ratio(steps: int, params: TuneParams, loss: PerceptualLoss) -> float:
    """Time a step an image on a 256 px generator with random weights: the loop's seconds over ours."""
    torch.manual_seed(0)
    generator = StyleGAN2(256, channel_multiplier=1).eval().requires_grad_(False)
    pivots = generator.broadcast(generator.mapping(torch.randn(4, generator.z_dim))).contiguous()
    targets = generator.synthesis(pivots.flip(0)).clamp(-1, 1)
    with Meter() as loop:
        published_loop(generator, pivots[:1], targets[:1], loss, steps, 0.0)
    params = params.model_copy(update={"steps": steps, "min_resolution": 128})
    with Meter() as ours:
        tune_pivots(generator, pivots, targets, loss, params, [0] * 4)
    print(
        f"256 px, {steps} steps: loop {loop.seconds:.1f} s an image, ours {ours.seconds / 4:.1f} s (128 px and above)"
    )
    return 4 * loop.seconds / ours.seconds


def compare_locality(portraits: Portraits, params: TuneParams, plain: dict[str, Any]) -> float:
    """Print editability of untuned and tuned portraits, without and with the locality term; return what that costs."""
    weighted = run_ours(portraits, params.model_copy(update={"locality_weight": 0.1, "locality_alpha": 11.0}))
    nothing = [b""] * len(portraits.images)
    untuned: dict[str, Any] = {"seconds": 0.0, "packed": nothing, **quality(portraits, drawn_by(portraits, nothing))}
    for name, run in (("untuned", untuned), ("no locality", plain), ("locality 0.1", weighted)):
        scores = editability(portraits, run["packed"])
        print(
            f"{name:14} {run['seconds']:6.2f} s an image  lpips {run['lpips']:.5f}  mse {run['mse']:.5f}  edited: "
            f"attribute move {scores['move']:.3f}  identity {scores['identity_after']:.3f}, "
            f"{scores['identity_kept']:.3f} of that before",
            flush=True,
        )
    return float(weighted["step_seconds"] / plain["step_seconds"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--loop-images", type=int, default=12)
    parser.add_argument("--loop-steps", type=int, default=350)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--lr", type=float, default=0.008)
    parser.add_argument("--stop", type=float, default=0.0)
    parser.add_argument("--precision", default="fast", choices=["exact", "fast"])
    parser.add_argument("--scaled", type=int, default=0)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    params = load_params()
    changes = {"steps": options.steps, "lr": options.lr, "precision": options.precision}
    tune = params.tune.model_copy(update=changes | {"stop_perceptual": options.stop})
    portraits = held_out_portraits(params, options.images)
    whole = run_ours(portraits, tune)
    print_row(f"ours, all {options.images}", whole)
    lossless = quality(portraits, drawn_by(portraits, whole["full"]))["psnr"]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(options.images, generator=generator)[: options.loop_images].sort().values.tolist()
    sample, ours = chosen(portraits, rows), part_of(portraits, whole, rows)
    loop = run_loop(sample, options.loop_steps, options.stop)
    print(f"portraits {rows}:")
    print_row("loop", loop)
    print_row("ours", ours)
    print_curve("loop", loop)
    print_curve("ours", ours)
    end = float(mean_curve(loop)[-1, 1])
    locality_cost = compare_locality(sample, tune, ours)
    print_result(
        images_per_hour_ratio=loop["seconds"] / ours["seconds"],
        time_to_loops_lpips_ratio=seconds_until(loop, end) / seconds_until(ours, end),
        step_ratio=loop["step_seconds"] / ours["step_seconds"],
        lpips_ratio=ours["lpips"] / loop["lpips"],
        mse_ratio=ours["mse"] / loop["mse"],
        identity_difference=ours["identity"] - loop["identity"],
        delta_bytes_share=whole["bytes"] / loop["bytes"],
        delta_psnr_loss=lossless - whole["psnr"],
        locality_step_ratio=locality_cost,
        **({"scaled_step_ratio": scaled_ratio(options.scaled, tune, portraits.loss)} if options.scaled else {}),
    )


if __name__ == "__main__":
    main()
