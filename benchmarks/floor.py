"""What the generator draws at best, against bicubic enlargement: ``python -m benchmarks.floor``.

Held-out portraits are inverted in W+ against themselves: from the encoder's latents, Adam lowers the squared error of
each portrait, in a second run its LPIPS, and in a third the squared error of the portrait reduced by ``--factor``,
which is all that an encoder of super-resolution sees. No encoder can come nearer to the portraits than the first two;
the third shows what is still in the input. Beside it: the encoder's own inversion, and the portraits reduced and
enlarged bicubically. PSNR is in dB; each number is a mean over the portraits. ``floor_psnr`` and ``floor_lpips`` are
those of the run that lowers the same, ``halfway_...`` of the same run after half of its steps, which shows what is left
to gain; ``reduced_...`` are those of the third run.
"""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import print_result
from benchmarks.tuning import held_out_portraits
from gan_core.metrics.pixel import mse, psnr
from gan_core.params import load_params
from gan_core.precision import prepare_worker
from gan_core.training.schedule import set_rate, warm_cosine
from gan_core.translation.degradations import reduce_bicubic

RATE = 0.05
WARM_UP = 20


def lowered(
    start: Tensor, draw: Callable[[Tensor], Tensor], error: Callable[[Tensor], Tensor], steps: int
) -> tuple[Tensor, Tensor]:
    """Lower the ``error [B]`` of what is drawn of latents ``[B, n_latent, w_dim]``; return them halfway and then."""
    latents, halfway = start.clone().requires_grad_(True), start
    optimiser = torch.optim.Adam([latents])
    for step in range(steps):
        set_rate(optimiser, RATE * warm_cosine(step, steps, WARM_UP))
        optimiser.zero_grad()
        error(draw(latents)).sum().backward()
        optimiser.step()
        halfway = latents.detach().clone() if step + 1 == steps // 2 else halfway
    return halfway, latents.detach()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--portraits", type=int, default=32)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--factor", type=int, default=2)
    options = parser.parse_args()
    prepare_worker()
    portraits = held_out_portraits(load_params(), options.portraits)
    images, distance = portraits.images, portraits.loss
    draw = portraits.generator.requires_grad_(False).synthesis
    small = reduce_bicubic(images, options.factor)
    errors: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: mse(x, images),
        lambda x: distance(x, images),
        lambda x: mse(reduce_bicubic(x, options.factor), small),
    )
    near, alike, (_, seen) = (lowered(portraits.pivots, draw, error, options.steps) for error in errors)
    found: dict[str, float] = {}
    with torch.no_grad():
        drawn = {
            "bicubic": F.interpolate(small, images.shape[2:], mode="bicubic"),
            "encoder": draw(portraits.pivots),
            "reduced": draw(seen),
            **{name: draw(codes) for name, codes in zip(("halfway psnr", "floor psnr"), near, strict=True)},
            **{name: draw(codes) for name, codes in zip(("halfway lpips", "floor lpips"), alike, strict=True)},
        }
        for name, pictures in drawn.items():
            pictures = pictures.clamp(-1, 1)
            scores = {"psnr": psnr(pictures, images).mean().item(), "lpips": distance(pictures, images).mean().item()}
            print(f"{name:14} PSNR {scores['psnr']:.2f} dB, LPIPS {scores['lpips']:.4f}", flush=True)
            kept = [key for key in scores if " " not in name or name.endswith(key)]
            found |= {f"{name.split()[0]}_{key}": scores[key] for key in kept}
    print_result(**found)


if __name__ == "__main__":
    main()
