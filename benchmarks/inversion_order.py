"""The ordering of inversion methods, on held-out portraits: ``python -m benchmarks.inversion_order``.

Roich et al. 2021 and Tov et al. 2021 find, from the farthest to the nearest picture: optimisation in W, e4e, pSp,
optimisation in W+, pivotal tuning. Optimisations take ``--steps`` (published: 450 to 1000) with LPIPS, a mean squared
error of weight ``--l2`` and their noise maps; encoders are named by ``--encoder NAME=PATH`` beside the one of
``params.yaml``. A place where the order does not hold is named.
"""

import argparse
from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from benchmarks.harness import print_result
from benchmarks.tuning import Meter, Portraits, drawn_by, held_out_portraits, quality
from gan_core.inversion.delta import pack_delta
from gan_core.inversion.projector import Recipe, Space, project
from gan_core.inversion.pti import tune_pivots
from gan_core.loading import load_encoder, load_generator
from gan_core.params import load_params
from gan_core.precision import keep_freed_memory

ORDER = ("w", "e4e", "psp", "w_plus", "pti")


@torch.no_grad()
def projected(portraits: Portraits, space: Space, steps: int, l2_weight: float) -> Tensor:
    """Draw what rosinality's projector finds, without its noise maps (pivotal tuning drops them too)."""
    recipe = Recipe(space, steps=steps, l2_weight=l2_weight)
    rows = list(range(len(portraits.images)))
    w_plus, _ = project(portraits.generator, portraits.images, portraits.loss, recipe, rows)
    return portraits.generator.synthesis(w_plus)


@torch.no_grad()
def encoded(portraits: Portraits, name: str, path: str) -> Tensor:
    """Draw what the encoder at ``path`` finds."""
    encoder = load_encoder(path, load_generator(portraits.params.models.generator), name).model
    return portraits.generator.synthesis(encoder.encode(portraits.images))


def tuned(portraits: Portraits) -> Tensor:
    """Draw what pivotal tuning finds, with the parameters of ``params.yaml``."""
    rows = list(range(len(portraits.images)))
    found = tune_pivots(
        portraits.generator, portraits.pivots, portraits.images, portraits.loss, portraits.params.tune, rows
    )
    return drawn_by(portraits, [pack_delta(result.delta) for result in found])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--l2", type=float, default=1.0)
    parser.add_argument("--encoder", action="append", default=[], metavar="NAME=PATH")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    params = load_params()
    portraits = held_out_portraits(params, options.images)
    encoders = {params.encode.encoder: params.models.encoder} | dict(item.split("=", 1) for item in options.encoder)
    methods: dict[str, Callable[[], Tensor]] = {
        "w": lambda: projected(portraits, "w", options.steps, options.l2),
        "w_plus": lambda: projected(portraits, "w_plus", options.steps, options.l2),
        "pti": lambda: tuned(portraits),
    }
    for name, path in encoders.items():
        methods[name] = lambda name=name, path=path: encoded(portraits, name, path)  # type: ignore[misc]
    found = {}
    for name in [*(n for n in ORDER if n in methods), *(n for n in methods if n not in ORDER)]:
        with Meter() as meter:
            found[name] = quality(portraits, methods[name]())
        scores = "  ".join(f"{score} {value:.4f}" for score, value in found[name].items())
        print(f"{name:8} {scores}  {meter.seconds / options.images:6.2f} s an image", flush=True)
    absent = [name for name in ORDER if name not in found]
    ranked = [name for name in ORDER if name in found]
    broken = [f"{a} is not below {b}" for a, b in combinations(ranked, 2) if found[a]["psnr"] >= found[b]["psnr"]]
    print("order in PSNR:", "; ".join(broken) or "holds", f"(no weights for {', '.join(absent)})" if absent else "")
    print_result(
        order_breaks=len(broken),
        methods_absent=len(absent),
        **{f"psnr_{name}": scores["psnr"] for name, scores in found.items()},
    )


if __name__ == "__main__":
    main()
