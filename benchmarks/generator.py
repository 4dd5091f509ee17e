"""Images a second of StyleGAN2 at 256 px: ``python -m benchmarks.generator``.

``exact`` and ``fast`` against a straightforward float32 formulation of the same network: one set of filters per image
and a grouped convolution, with the C library's memory as it comes. The stages of a run keep freed memory, so the two
modes are measured like that; what the grouped form then reaches, in turns with them, gives the ratios
``..._same_memory``. Medians over the rounds. The machine's own limit is what a bare convolution of one of the network's
heavy shapes reaches in float32 and in bfloat16, timed in every round beside the network; ``fast_limit_share`` is what
``fast`` reaches of it. ``--forms`` also times each form of up-sampling that ``fast`` can take.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import print_result, relative_error, timed
from gan_core.generators import layers
from gan_core.generators.layers import SQRT2, UP_FORMS, ModulatedConv, StyledConv, upfirdn2d
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.precision import compute_dtype, keep_freed_memory, set_precision, up_form

SIZE, BATCH = 256, 8
LIMIT_GIGAFLOP = 2 * BATCH * 256 * 256 * 9 * 128 * 128 / 1e9
Mode = Literal["grouped", "exact", "fast"]
MODES: tuple[Mode, ...] = ("grouped", "exact", "fast")


def grouped_convolution(conv: ModulatedConv, x: Tensor, style: Tensor, demodulate: bool) -> Tensor:
    """Modulate, and demodulate, a copy of the filters for each image, then convolve in groups."""
    batch, inputs, height, width = x.shape
    weight = conv.weight * conv.gain * style[:, None, :, None, None]
    if demodulate:
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    outputs, size = weight.shape[1], weight.shape[-1]
    flat = x.reshape(1, batch * inputs, height, width)
    if conv.blur is None:
        filters = weight.reshape(batch * outputs, inputs, size, size)
        return F.conv2d(flat, filters, padding=size // 2, groups=batch).view(batch, outputs, height, width)
    filters = weight.transpose(1, 2).reshape(batch * inputs, outputs, size, size)
    up = F.conv_transpose2d(flat, filters, stride=2, groups=batch)
    return upfirdn2d(up.view(batch, outputs, 2 * height + 1, 2 * width + 1), conv.blur.kernel, pad=(1, 1))


def grouped_synthesis(generator: StyleGAN2, w_plus: Tensor) -> Tensor:
    """Run the published network in its straightforward form, with the constant noise maps."""
    x = generator.input.input.expand(len(w_plus), -1, -1, -1)
    image, number = None, 0
    for layer, index in generator.layers():
        style = layer.conv.modulation(w_plus[:, index])
        y = grouped_convolution(layer.conv, x, style, isinstance(layer, StyledConv))
        if isinstance(layer, StyledConv):
            noise = generator.get_buffer(f"noises.noise_{number}")
            x = F.leaky_relu(y + layer.noise.weight * noise + layer.activate.bias[None, :, None, None], 0.2) * SQRT2
            number += 1
        else:
            y = y + layer.bias
            if image is not None and layer.upsample is not None:
                y = y + upfirdn2d(image, layer.upsample.kernel, up=2, pad=(2, 1))
            image = y
    assert image is not None
    return image


def bare_convolution(dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return a bare 3x3 convolution of 256 channels at 128 px, of ``LIMIT_GIGAFLOP``."""
    x = torch.randn(BATCH, 256, 128, 128).to(dtype, memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3).to(dtype, memory_format=torch.channels_last)
    return lambda: F.conv2d(x, weight, padding=1)


def network_gigaflops(generator: StyleGAN2) -> float:
    """Return the convolutions' work for one image, two operations a multiply-add."""
    total, resolution = 0.0, 4
    for layer, _ in generator.layers():
        total += 2 * layer.conv.weight.numel() * resolution**2
        resolution *= 2 if layer.conv.blur is not None else 1
    return total / 1e9


@dataclass(frozen=True)
class Network:
    """The generator with the latents that it draws."""

    generator: StyleGAN2
    w_plus: Tensor

    def draw(self, mode: Mode) -> Tensor:
        """Draw all images ``[B, 3, H, W]``."""
        if mode == "grouped":
            return grouped_synthesis(self.generator, self.w_plus)
        set_precision(self.generator, mode)
        return self.generator.synthesis(self.w_plus)

    def rate(self, seconds: float) -> float:
        """Return the GFLOP/s of drawing them in so many seconds."""
        return len(self.w_plus) * network_gigaflops(self.generator) / seconds


def build_network() -> Network:
    """Make the generator with random weights."""
    torch.manual_seed(0)
    generator = StyleGAN2(SIZE).eval()
    return Network(generator, generator.broadcast(generator.mapping(torch.randn(BATCH, generator.w_dim))).contiguous())


def time_forms(network: Network, rounds: int) -> None:
    """Print what ``fast`` reaches with each form of up-sampling, in turns."""
    times: dict[str, list[float]] = {form: [] for form in UP_FORMS}
    for _ in range(rounds):
        for form, taken in times.items():
            with mock.patch.object(layers, "up_form", lambda kind, form=form: form):
                taken.append(timed(partial(network.draw, "fast")))
    for form, taken in times.items():
        print(f"fast, up-sampling {form:9} {network.rate(statistics.median(taken)):6.0f} GFLOP/s", flush=True)
    print(f"this machine takes {up_form('cpu')}")


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", action="store_true", help="time the forms of up-sampling too")
    options = parser.parse_args()
    network = build_network()
    network.draw("grouped")
    plain = statistics.median(timed(partial(network.draw, "grouped")) for _ in range(options.rounds))
    print(f"grouped  {BATCH / plain:6.2f} images/s with memory as it comes; from here on it is kept", flush=True)
    keep_freed_memory()
    images = {name: network.draw(name) for name in MODES}
    bare = {name: bare_convolution(compute_dtype(name)) for name in ("exact", "fast")}
    times: list[dict[str, float]] = []
    for _ in range(options.rounds):
        limits = {f"{name} limit": min(timed(work) for _ in range(2)) for name, work in bare.items()}
        times.append(limits | {name: timed(partial(network.draw, name)) for name in MODES})
    for name in MODES:
        taken = statistics.median(t[name] for t in times)
        limit = LIMIT_GIGAFLOP / min(t["fast limit" if name == "fast" else "exact limit"] for t in times)
        error = relative_error(images[name], images["grouped"])
        rate = f"{network.rate(taken):6.0f} GFLOP/s of the machine's {limit:6.0f}"
        print(f"{name:8} {BATCH / taken:6.2f} images/s, {rate}, relative error {error:.1e}")
    if options.forms:
        time_forms(network, options.rounds)
    print_result(
        exact_ratio=plain / statistics.median(t["exact"] for t in times),
        fast_ratio=plain / statistics.median(t["fast"] for t in times),
        exact_ratio_same_memory=statistics.median(t["grouped"] / t["exact"] for t in times),
        fast_ratio_same_memory=statistics.median(t["grouped"] / t["fast"] for t in times),
        fast_relative_error=relative_error(images["fast"], images["grouped"]),
        exact_relative_error=relative_error(images["exact"], images["grouped"]),
        fast_limit_share=statistics.median(network.rate(t["fast"]) * t["fast limit"] / LIMIT_GIGAFLOP for t in times),
    )


if __name__ == "__main__":
    main()
