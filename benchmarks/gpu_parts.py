"""What ``benchmarks.gpu`` measures: each part takes the sizes and yields a name and a number as soon as it has them."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.full_size import ARGUMENTS, import_models, settings, write_photographs
from benchmarks.generator import grouped_synthesis, network_gigaflops
from benchmarks.harness import relative_error, timed
from benchmarks.pti import published_loop
from gan_core.capture import Recorded
from gan_core.device import compute_on, computing, on_host, place, synchronise
from gan_core.encoders.fast import prepare_fast
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.generators import layers
from gan_core.generators.layers import UP_FORMS, StyledConv
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.pti import tune_pivots
from gan_core.judges.inception import InceptionFid
from gan_core.judges.perceptual import PerceptualLoss, linear_weights
from gan_core.judges.trunks import TRUNKS
from gan_core.pages.stages import summarise_stages
from gan_core.params import TuneParams
from gan_core.plain import run_plain
from gan_core.precision import set_precision
from gan_core.recipes.base import plan_run

GOLDEN = "tests/device/test_real_card.py"
Numbers = Iterator[tuple[str, float]]


@dataclass(frozen=True)
class Sizes:
    """How large everything is; ``TOY`` is for the pretended device, where only the code matters."""

    copied: int = 1 << 30
    product: int = 8192
    generators: tuple[int, ...] = (256, 1024)
    arguments: dict[str, Any] | None = None
    images: int = 64
    rounds: int = 5
    encoder: dict[str, Any] = field(default_factory=lambda: {"n_latent": 18})
    encoded: int = 32
    tuned: int = 1024
    rows: int = 24
    tune: TuneParams = field(default_factory=lambda: TuneParams(precision="fast", min_resolution=128, steps=40))
    loop_rows: int = 1
    loop_steps: int = 350
    inception_thin: int = 1
    features: int = 256
    flow: int = 1024
    flow_rows: int = 48
    flow_steps: int = 40
    patience: float = 1.0


TOY = Sizes(
    copied=1 << 12,
    product=16,
    generators=(16,),
    arguments={"style_dim": 16, "n_mlp": 1, "channels": {4: 8, 8: 8, 16: 8, 32: 8}},
    images=4,
    rounds=1,
    encoder=ARGUMENTS[64][1],
    encoded=2,
    tuned=32,
    rows=3,
    tune=TuneParams(precision="fast", min_resolution=8, steps=3, batch_size=2),
    loop_steps=2,
    inception_thin=16,
    features=2,
    flow=64,
    flow_rows=2,
    flow_steps=3,
    patience=20.0,
)


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median of the seconds that the device takes, after three calls that don't count."""
    for _ in range(3):
        work()

    def done() -> None:
        work()
        synchronise()

    taken = []
    for _ in range(rounds):
        synchronise()
        taken.append(timed(done))
    return statistics.median(taken)


def peak_mb() -> float:
    """Return the most memory that tensors of the card took since the last call, in MB; 0 without a card."""
    if computing().kind != "cuda":
        return 0.0
    peak = torch.cuda.max_memory_allocated(computing().device) / 2**20
    torch.cuda.reset_peak_memory_stats(computing().device)
    return peak


@dataclass(frozen=True)
class Limits:
    """What the card reaches at best: bytes a second of a copy (read and written), bfloat16 operations a second."""

    copy: float
    product: float

    @classmethod
    def measured(cls, sizes: Sizes) -> "Limits":
        """Measure a copy and a product of square matrices."""
        source = place(torch.zeros(sizes.copied, dtype=torch.uint8))
        into = torch.empty_like(source)
        a = place(torch.zeros(sizes.product, sizes.product, dtype=torch.bfloat16))
        copying = seconds(lambda: into.copy_(source), sizes.rounds)
        return cls(2 * sizes.copied / copying, 2 * sizes.product**3 / seconds(lambda: a @ a, sizes.rounds))

    def floor(self, generator: StyleGAN2) -> float:
        """Return the seconds for one image: its products, and its activations written once and read once."""
        values = sum(
            layer.conv.weight.shape[1] * side**2
            for (layer, _), side in zip(generator.layers(), layer_sides(generator), strict=True)
            if isinstance(layer, StyledConv)
        )
        return network_gigaflops(generator) * 1e9 / self.product + 2 * 2 * values / self.copy


def layer_sides(generator: StyleGAN2) -> Iterator[int]:
    """Yield the side of each layer's output in pixels."""
    side = 4
    for layer, _ in generator.layers():
        side *= 2 if layer.conv.blur is not None else 1
        yield side


def make_generator(size: int, sizes: Sizes) -> StyleGAN2:
    """Return a generator with random weights, on the device."""
    torch.manual_seed(0)
    return place(StyleGAN2(size, **(sizes.arguments or {})).eval().requires_grad_(False))


def make_codes(generator: StyleGAN2, rows: int) -> Tensor:
    """Return latents ``[rows, n_latent, w_dim]``."""
    z = torch.randn(rows, generator.z_dim, generator=torch.Generator().manual_seed(1))
    return generator.broadcast(generator.mapping(place(z))).contiguous()


@torch.no_grad()
def measure_generator(size: int, sizes: Sizes, limits: Limits) -> Numbers:
    """Images a second: plain in float32, ``exact``, ``fast`` by form of up-sampling, recorded; share of the floor."""
    generator = make_generator(size, sizes)
    rows = sizes.images if size <= 256 else sizes.images // 4
    codes, floor = make_codes(generator, rows), limits.floor(generator)
    plain_images = grouped_synthesis(generator, codes[:2])
    plain = rows / seconds(lambda: [grouped_synthesis(generator, part) for part in codes.split(8)], sizes.rounds)
    yield f"generator_{size}_plain", plain
    for precision in ("exact", "fast"):
        set_precision(generator, precision)
        rate = rows / seconds(lambda: generator.synthesis(codes), sizes.rounds)
        yield f"generator_{size}_{precision}", rate
        yield f"generator_{size}_{precision}_error", relative_error(generator.synthesis(codes[:2]), plain_images)
    yield f"generator_{size}_share_of_floor", rate * floor
    yield f"generator_{size}_fast_over_plain", rate / plain
    yield f"generator_{size}_peak_mb", peak_mb()
    for form in UP_FORMS:
        with mock.patch.object(layers, "up_form", lambda kind, form=form: form):
            yield f"generator_{size}_fast_{form}", rows / seconds(lambda: generator.synthesis(codes), sizes.rounds)
    single, recorded = codes[:1].clone(), Recorded(generator.synthesis)
    yield f"generator_{size}_fast_one_by_one", 1 / seconds(lambda: generator.synthesis(single), sizes.rounds)
    yield f"generator_{size}_fast_one_recorded", 1 / seconds(lambda: recorded(single), sizes.rounds)


@torch.no_grad()
def rate_of(name: str, work: Callable[[Tensor], Tensor], images: Tensor, flops: float, limits: Limits) -> Numbers:
    """Yield images a second of a network, and the share of the card's products in bfloat16."""
    taken = seconds(lambda: work(images), 3)
    yield name, len(images) / taken
    yield f"{name}_share_of_floor", flops * len(images) / limits.product / taken


def flops_of(network: nn.Module, image: Tensor) -> float:
    """Count the operations of a network for one image, on the CPU."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return float(counter.get_total_flops())


def measure_encoder(sizes: Sizes, limits: Limits) -> Numbers:
    """PSp, ``exact`` and ``fast``."""
    torch.manual_seed(0)
    encoder = GradualStyleEncoder(**sizes.encoder).eval().requires_grad_(False)
    one = torch.zeros(1, 3, encoder.input_size, encoder.input_size)
    flops = flops_of(encoder, one)
    encoder, images = place(encoder), place(one.expand(sizes.encoded, -1, -1, -1).contiguous())
    yield from rate_of("psp_exact", encoder.encode, images, flops, limits)
    yield from rate_of("psp_fast", prepare_fast(encoder).encode, images, flops, limits)
    yield "psp_peak_mb", peak_mb()


def measure_features(sizes: Sizes, limits: Limits) -> Numbers:
    """The features of FID."""
    torch.manual_seed(0)
    network = InceptionFid(thin=sizes.inception_thin).eval().requires_grad_(False)
    images = torch.zeros(1, 3, 299, 299)
    flops = flops_of(network, images)
    network, images = place(network), place(images.expand(sizes.features, -1, -1, -1).contiguous())
    yield from rate_of("fid_features", network, images, flops, limits)
    yield "fid_features_peak_mb", peak_mb()


def make_loss() -> PerceptualLoss:
    """Return LPIPS on AlexNet, with random weights in the trunk."""
    torch.manual_seed(0)
    trunk = TRUNKS.get("alex")()
    shapes = [part.shape[1] for part in PerceptualLoss("", trunk, [], True).maps(torch.zeros(1, 3, 64, 64))]
    weights = linear_weights("alex") if find_spec("lpips") else [torch.full((n,), 1 / n) for n in shapes]
    return place(PerceptualLoss("lpips_alex", trunk, weights, True))


@torch.no_grad()
def reachable_targets(pivots: Tensor, sizes: Sizes) -> Tensor:
    """Draw the pivots by a generator whose weights are a little different, ``[rows, 3, H, W]`` in [-1, 1]."""
    other, noise = make_generator(sizes.tuned, sizes), torch.Generator().manual_seed(2)
    for weight in other.parameters():
        weight.add_(place(0.05 * torch.randn(weight.shape, generator=noise)))
    return torch.cat([other.synthesis(part).clamp(-1, 1) for part in pivots.split(2)])


def measure_tuning(sizes: Sizes, limits: Limits) -> Numbers:
    """Pictures a second of tuning and of the published loop, with the LPIPS of both; the gain of recording."""
    generator, loss = make_generator(sizes.tuned, sizes), make_loss()
    pivots = make_codes(generator, sizes.rows)
    targets = reachable_targets(pivots, sizes)

    def tune(rows: int, params: TuneParams) -> list[float]:
        found: list[float] = []
        for part in torch.arange(rows).split(params.batch_size):
            chosen = slice(int(part[0]), int(part[-1]) + 1)
            tuned = tune_pivots(generator, pivots[chosen], targets[chosen], loss, params, part.tolist())
            found += [row.losses[-1].perceptual for row in tuned]
        return found

    batch = sizes.tune.batch_size
    tune(batch, sizes.tune.model_copy(update={"steps": 3}))
    begin = time.perf_counter()
    lpips = tune(sizes.rows, sizes.tune)
    rate = sizes.rows / (time.perf_counter() - begin)
    yield "tuning_images_per_s", rate
    yield "tuning_lpips", statistics.mean(lpips)
    yield "tuning_peak_mb", peak_mb()
    with compute_on(replace(computing(), graphs=None)):
        begin = time.perf_counter()
        tune(batch, sizes.tune)
        yield "tuning_unrecorded_images_per_s", batch / (time.perf_counter() - begin)
    begin = time.perf_counter()
    with torch.enable_grad():
        curves = [
            published_loop(generator, pivots[i : i + 1], targets[i : i + 1], loss, sizes.loop_steps, 0.0)[1]
            for i in range(sizes.loop_rows)
        ]
    loop = sizes.loop_rows / (time.perf_counter() - begin)
    yield "loop_images_per_s", loop
    yield "loop_lpips", statistics.mean(curve[-1][1] for curve in curves)
    yield "tuning_lpips_same_rows", statistics.mean(lpips[: sizes.loop_rows])
    yield "tuning_over_loop", rate / loop


def measure_flow(sizes: Sizes, limits: Limits) -> Numbers:
    """The whole flow at its full size: rows a second, and the seconds of each stage."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with on_host():
            models = import_models(folder, sizes.flow)
            write_photographs(folder, sizes.flow_rows, sizes.flow)
        overrides = settings(models, sizes.flow, sizes.flow_steps) | {
            "run.device": computing().device.removesuffix(":0"),
            "run.batch_size": 16,
            "run.precision": "fast",
            "tune.batch_size": sizes.tune.batch_size,
            "tune.precision": "fast",
        }
        begin = time.perf_counter()
        plan = plan_run(str(folder / "photographs"), str(folder / "run"), overrides=overrides)
        run_plain(plan)
        yield "flow_rows_per_s", sizes.flow_rows / (time.perf_counter() - begin)
        for stage in summarise_stages(plan.run):
            yield f"flow_{stage.name}_s", stage.seconds
        yield "flow_peak_mb", peak_mb()


def golden_tests(sizes: Sizes, limits: Limits) -> Numbers:
    """The golden tests on this device; 1 if they pass."""
    options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "--noconftest"]  # the fixtures of others need more packages
    command = [sys.executable, "-m", "pytest", *options, GOLDEN]
    done = subprocess.run(command, capture_output=True, text=True)
    print("\n".join(done.stdout.splitlines()[-15:]) or done.stderr[-500:], flush=True)
    yield "golden_tests_pass", float(done.returncode == 0)


def parts(sizes: Sizes) -> list[tuple[str, float, Callable[[Sizes, Limits], Numbers]]]:
    """Return all parts in order, each with the seconds that it may take (guessed for an H100)."""
    generators = [(f"StyleGAN2 {n} px", 45.0, partial(measure_generator, n)) for n in sizes.generators]
    return [
        *generators,
        ("pSp", 30.0, measure_encoder),
        ("tuning", 120.0, measure_tuning),
        ("FID features", 20.0, measure_features),
        ("whole flow", 110.0, measure_flow),
        ("golden tests", 60.0, golden_tests),
    ]
