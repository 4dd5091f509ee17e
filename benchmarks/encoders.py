"""Encoders at full size: ``python -m benchmarks.encoders``.

pSp and Style Transformer with random weights and the published sizes, on images of 256 px: parameters, and images a
second in ``plain`` (the network as it is built: float32, channels first), ``exact`` (float32, channels last) and
``fast``, alone and in batches of 8. All take turns in one process that keeps freed memory; ratios are medians over the
rounds.
"""

import argparse
import copy
import statistics
import time
from functools import partial

import torch
from torch import Tensor

from benchmarks.harness import print_result
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
        else:
            scale = 0.2 if key.endswith(".res_layer.4.weight") else 1.0  # or the maps grow from unit to unit
            value.fill_(scale if key.endswith(("running_var", "weight")) else 0.0)
    return encoder


def parameters(encoder: Encoder, mapping: bool) -> int:
    """Count the weights of an encoder, or those of its mapping network."""
    return sum(p.numel() for key, p in encoder.named_parameters() if key.startswith(MAPPING) == mapping)


def seconds(encoder: Encoder, images: Tensor) -> float:
    """Return the wall time of one call."""
    begin = time.perf_counter()
    encoder.encode(images)
    return time.perf_counter() - begin


def offsets_error(codes: Tensor, expected: Tensor) -> float:
    """Return the root mean square of the difference over that of what was expected."""
    return float((codes - expected).square().mean().sqrt() / expected.square().mean().sqrt())


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    counts, plain_errors = {}, {}
    times: dict[tuple[str, str, int], list[float]] = {}
    for name in NAMES:
        plain = build(name)
        counts[name] = parameters(plain, mapping=False)
        said = f" and {parameters(plain, mapping=True) / 1e6:.1f} M mapping" if parameters(plain, mapping=True) else ""
        print(f"{name}: {counts[name] / 1e6:.1f} M parameters{said}", flush=True)
        exact = copy.deepcopy(plain).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        networks = {"plain": plain, "exact": exact, "fast": prepare_fast(copy.deepcopy(plain))}
        for batch in options.batches:
            images = torch.rand(batch, 3, 256, 256) * 2 - 1
            plain_errors[name] = offsets_error(networks["fast"].encode(images), networks["exact"].encode(images))
            runs = {mode: partial(seconds, network, images) for mode, network in networks.items()}
            for _ in range(options.rounds):
                for mode, run in runs.items():
                    times.setdefault((name, mode, batch), []).append(run())
            for mode in runs:
                speed = batch / statistics.median(times[name, mode, batch])
                print(f"  {mode:6} batch {batch}: {speed:6.2f} images/s", flush=True)
        print(f"  fast differs from exact by {plain_errors[name]:.1e} of the codes' offsets", flush=True)
    largest = max(options.batches)
    print_result(
        psp_params=counts["psp"],
        style_transformer_params=counts["style-transformer"],
        psp_fast_ratio=_ratio(times["psp", "plain", largest], times["psp", "fast", largest]),
        style_transformer_over_psp=_ratio(times["psp", "exact", largest], times["style-transformer", "exact", largest]),
        style_transformer_over_psp_fast=_ratio(
            times["psp", "fast", largest], times["style-transformer", "fast", largest]
        ),
        fast_relative_error=max(plain_errors.values()),
    )


def _ratio(slow: list[float], fast: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


if __name__ == "__main__":
    main()
