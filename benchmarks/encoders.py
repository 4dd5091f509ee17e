"""Encoders at full size: ``python -m benchmarks.encoders``.

pSp and Style Transformer with random weights and the published sizes, on images of 256 px: parameters, and images a
second in ``plain`` (the network as it is built: float32, channels first), ``exact`` (float32, channels last) and
``fast``, alone and in batches of 8, one thread, by the process's own time. ``psp_fast_ratio`` is against ``plain`` with
the C library's memory as it comes; the stages of a run keep freed memory, so all modes then take turns like that
(``psp_fast_ratio_same_memory``). Medians over the rounds. ``bfloat16_limit`` is what bfloat16 gives a bare convolution
of pSp's commonest shape on this machine. Takes 5 GB of memory.
"""

import argparse
import copy
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import print_result, relative_error
from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.encoders.fast import prepare_fast
from gan_core.precision import keep_freed_memory

NAMES = ("psp", "style-transformer")
MAPPING = "style."


def build(name: str) -> Encoder:
    """Build an encoder for 1024 px with weights that keep the spread of what goes through them."""
    with torch.device("meta"):
        encoder: Encoder = ENCODERS.get(name)(n_latent=18)  # type: ignore[call-arg]
    encoder = encoder.to_empty(device="cpu").eval().requires_grad_(False)
    for key, value in [*encoder.state_dict().items(), ("latent_avg", encoder.latent_avg)]:
        if value.ndim > 1 and key != "latent_avg":
            gain = 100.0 if key.startswith(MAPPING) else 1.0 if key.endswith(".linear.weight") or key == "z" else None
            value.normal_().mul_(gain if gain is not None else value[0].numel() ** -0.5)
            if "attn.in_proj" in key:
                value.mul_(0.2)  # or each query sees one place alone, and rounding decides which
        else:
            scale = 0.2 if key.endswith(".res_layer.4.weight") else 1.0  # or the maps grow from unit to unit
            value.fill_(scale if key.endswith(("running_var", "weight")) else 0.0)
    return encoder


def parameters(encoder: Encoder, mapping: bool) -> int:
    """Count the weights of an encoder, or those of its mapping network."""
    return sum(p.numel() for key, p in encoder.named_parameters() if key.startswith(MAPPING) == mapping)


def seconds(encoder: Encoder, images: Tensor) -> float:
    """Return the processor time of one call."""
    begin = time.process_time()
    encoder.encode(images)
    return time.process_time() - begin


def bfloat16_limit() -> float:
    """Return how many times faster bfloat16 is for a bare 3x3 convolution of 512 channels at 64 px, stride 2."""
    best = []
    for dtype in (torch.float32, torch.bfloat16):
        x, weight = torch.randn(4, 512, 64, 64), torch.randn(512, 512, 3, 3)
        x, weight = (t.to(dtype, memory_format=torch.channels_last) for t in (x, weight))
        times = []
        for _ in range(4):
            begin = time.process_time()
            F.conv2d(x, weight, stride=2, padding=1)
            times.append(time.process_time() - begin)
        best.append(min(times))
    return best[0] / best[1]


def modes_of(plain: Encoder) -> dict[str, Encoder]:
    """The same network in every mode."""
    exact = copy.deepcopy(plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return {"plain": plain, "exact": exact, "fast": prepare_fast(copy.deepcopy(plain))}


def measure(modes: dict[str, Encoder], images: Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of each mode, all taking turns ``rounds`` times."""
    times: dict[str, list[float]] = {mode: [] for mode in modes}
    for _ in range(rounds):
        for mode, encoder in modes.items():
            times[mode].append(seconds(encoder, images))
    for mode, taken in times.items():
        print(f"  {mode:6} batch {len(images)}: {len(images) / statistics.median(taken):6.2f} images/s", flush=True)
    return times


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = {batch: torch.rand(batch, 3, 256, 256) * 2 - 1 for batch in options.batches}
    print("memory as it comes", flush=True)
    as_it_comes = measure({"plain": build("psp")}, images[max(images)], options.rounds)["plain"]
    keep_freed_memory()
    counts: dict[str, int] = {}
    times: dict[str, dict[str, list[float]]] = {}
    for name in NAMES:
        modes = modes_of(build(name))
        counts[name], mapping = (parameters(modes["plain"], mapping=part) for part in (False, True))
        said = f" and {mapping / 1e6:.1f} M mapping" if mapping else ""
        print(f"{name}: {counts[name] / 1e6:.1f} M parameters{said}", flush=True)
        error = relative_error(*(modes[mode].encode(images[min(images)]) for mode in ("fast", "exact")))
        print(f"  fast differs from exact by {error:.1e} of the codes' offsets", flush=True)
        for batch in images.values():
            times[name] = measure(modes, batch, options.rounds)
        del modes
    psp, transformer = times["psp"], times["style-transformer"]
    print_result(
        psp_params=counts["psp"],
        style_transformer_params=counts["style-transformer"],
        psp_fast_ratio=statistics.median(as_it_comes) / statistics.median(psp["fast"]),
        psp_fast_ratio_same_memory=_ratio(psp["plain"], psp["fast"]),
        bfloat16_limit=bfloat16_limit(),
        style_transformer_over_psp=_ratio(psp["exact"], transformer["exact"]),
        style_transformer_over_psp_fast=_ratio(psp["fast"], transformer["fast"]),
    )


def _ratio(slow: list[float], fast: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


if __name__ == "__main__":
    main()
