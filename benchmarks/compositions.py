"""What compositions cost and how good they are: ``python -m benchmarks.compositions``.

Speed: images a second of each operation in ``exact`` and ``fast`` against the plain two-pass formulation (every layer
evaluated for both branches, float32), all taking turns. ``seam``: the mean step across the joins of panoramas, where
neighbouring pictures meet, over the mean step elsewhere; ``abutting`` is that of plain pictures set side by side, and
``line`` the step at joins over that of the two columns on either side. ``cut``: the same score where strips are cut, in
the middle of faces, where steps are large: ``cut_floor`` is that of the middle column of plain pictures, ``cut_uncut``
holds cuts against the same place of pairs that aren't cut, and ``cut_mismatch`` is how far the two drawings of a column
at a cut differ, in such steps. ``outside_change``: how much
pixels change that lie more than an eighth of the picture from what the mask covers, over the change inside it.
``structure_drift``: the largest of the mean changes of yaw, pitch and smile by the attribute regressor, in shares of
their ranges, between source and translation, at the kept layers and the alpha that an entry of a plan has by default.
``style_monotone``: 1 if the distance to the cel-shaded set, which is as varied as untruncated codes are, falls with
every step of alpha there; ``style_last_step`` is the last of them over three draws of codes.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import print_result, timed
from gan_core.compose.base import check_composer, find_landmarks, load_second
from gan_core.compose.kinds.transfer import OUTSIDE, POSES
from gan_core.compose.kinds.translate import TranslateSpec
from gan_core.compose.masks import box_mask, named_box
from gan_core.compose.operations import extend, interpolate, join, swap_patches, transfer, translate
from gan_core.compose.panorama import joins_of, panorama, seam_score, smooth
from gan_core.generators import walk as walking
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import Branch, Features, Rule, Step
from gan_core.judges.extractors import EXTRACTORS
from gan_core.judges.networks import load_network
from gan_core.judges.perceptual import load_perceptual
from gan_core.loading import load_generator
from gan_core.metrics.frechet import frechet_distance, gather
from gan_core.metrics.identity import cosine
from gan_core.params import Params, load_params
from gan_core.precision import keep_freed_memory, set_precision
from gan_core.toy.renderer import render, sample_factors
from gan_core.toy.renderer.cel import render_cel

BATCH = 8
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
STRUCTURE = ("yaw", "pitch", "smile")
PARTS = ("speed", "seams", "transfer", "translation")


@dataclass(frozen=True)
class Setting:
    """The networks that are looked at, and the parameters that name them."""

    params: Params
    first: StyleGAN2
    second: StyleGAN2

    @classmethod
    def load(cls) -> "Setting":
        """Load what ``params.yaml`` names."""
        params = load_params()
        first = check_composer(load_generator(params.models.generator))
        return cls(params, first.model, load_second(params.models.second_generator, first).model)

    def codes(self, count: int, seed: int = 0, psi: float | None = None) -> Tensor:
        """Codes ``[count, n_latent, w_dim]``, truncated by ``psi`` (default: that of ``compose``)."""
        z = torch.randn(count, self.first.z_dim, generator=torch.Generator().manual_seed(seed))
        w = self.first.truncate(self.first.mapping(z), self.params.compose.psi if psi is None else psi)
        return self.first.broadcast(w).contiguous()


def branch(generator: StyleGAN2, w_plus: Tensor) -> Branch:
    """Return a generator in the styles of several codes."""
    return generator.branch(generator.styles(w_plus))


def two_passes(index: int, first: Step, second: Step, rule: Rule, at: Features) -> Tensor:
    """Blend as published: both branches are evaluated in every layer, whatever their shares."""
    one, other = first.take(at), second.take(at)
    if index == 0 and rule.join is not None:
        return torch.cat([one, other], walking.DIMENSION[rule.join])
    share = rule.share(index, *first.size(at))
    return (1 - share) * one + share * other


@contextmanager
def formulation(setting: Setting, name: str) -> Iterator[None]:
    """Compute in ``exact``, in ``fast``, or in ``plain``: exact, in two passes."""
    for generator in (setting.first, setting.second):
        set_precision(generator, "fast" if name == "fast" else "exact")
    with patch.object(walking, "_blend", two_passes if name == "plain" else walking._blend):
        yield
    for generator in (setting.first, setting.second):
        set_precision(generator, "exact")


def operations(setting: Setting) -> dict[str, Callable[[], Tensor]]:
    """Return a batch of each operation, to be called."""
    g, h, w = setting.first, setting.second, setting.codes(BATCH)
    other, mask = w.roll(1, 0), box_mask([named_box("eyes")])
    return {
        "panorama": lambda: panorama(g, w),
        "interpolate": lambda: interpolate(branch(g, w), branch(g, other)),
        "join": lambda: join(branch(g, w), branch(g, other)),
        "extend": lambda: extend(branch(g, w), "reflect"),
        "translate": lambda: translate(branch(g, w), branch(h, other)),
        "transfer": lambda: transfer(branch(g, w), branch(g, other), mask),
        "swap": lambda: swap_patches(branch(g, w), branch(g, other), (0.25, 0.25, 0.25, 0.25), (0.5, 0.25, 0.25, 0.25)),
    }


def seconds(setting: Setting, name: str, work: Callable[[], Tensor]) -> float:
    """Return the wall time of one call in a formulation."""
    with formulation(setting, name):
        return timed(work)


def print_speeds(setting: Setting, rounds: int) -> dict[str, float]:
    """Print images a second of each operation and return the medians of the ratios to the plain formulation."""
    names = ("plain", "exact", "fast")
    ratios: dict[str, list[float]] = {"exact": [], "fast": []}
    for operation, work in operations(setting).items():
        for name in names:
            seconds(setting, name, work)
        times = [{name: seconds(setting, name, work) for name in names} for _ in range(rounds)]
        speed = {name: BATCH / statistics.median(t[name] for t in times) for name in names}
        for name, found in ratios.items():
            found.append(statistics.median(t["plain"] / t[name] for t in times))
        print(f"{operation:12} images/s: " + ", ".join(f"{name} {speed[name]:7.1f}" for name in names))
    return {f"{name}_ratio": statistics.median(found) for name, found in ratios.items()}


def measure_seams(setting: Setting, count: int) -> dict[str, float]:
    """Draw ``count`` panoramas of 8 pictures with and without smoothing; return how visible joins and cuts are."""
    g = setting.first
    found: dict[str, float] = {}
    joins, cuts = joins_of(8, g.size), [g.size * i + g.size // 2 for i in range(1, 7)]
    for name, sigma in (("smoothed", 0.7), ("raw", 0.0)):
        scores: dict[str, list[float]] = {}
        for seed in range(count):
            codes = setting.codes(8, 100 + seed)
            codes = smooth(codes, sigma, g.latent_avg) if sigma else codes
            image, plain = panorama(g, codes), g.synthesis(codes).clamp(-1, 1)
            known = {"seam": seam_score(image, joins), "line": line(image, joins)}
            known["abutting"] = seam_score(torch.cat(plain.split(1), 3), joins)
            known |= {"cut": seam_score(image, cuts), "cut_floor": seam_score(plain, [g.size // 2])}
            for what, value in (known | cut_pairs(g, codes)).items():
                scores.setdefault(what, []).append(value)
        for what, values in scores.items():
            mean, error = float(np.mean(values)), float(np.std(values) / count**0.5)
            print(f"{what + '_' + name:22} {mean:.4f} ± {error:.4f}")
            found |= {f"{what}_{name}": mean, f"{what}_{name}_error": error}
    return found


def line(image: Tensor, joins: Sequence[int]) -> float:
    """Mean step across the joins over that of the two columns on either side of each."""
    steps, at = image.diff(dim=3).abs().mean((0, 1, 2)), torch.tensor(joins) - 1
    return float(steps[at].mean() / torch.stack([steps[at + k] for k in (-2, -1, 1, 2)]).mean())


def cut_pairs(generator: StyleGAN2, codes: Tensor) -> dict[str, float]:
    """Hold cuts of a panorama against the uncut pairs: both know a column more than they show."""
    size, half = generator.size, generator.size // 2
    pairs = [join(branch(generator, one), branch(generator, other)) for one, other in pairwise(codes.split(1))]
    ends = torch.cat([image[..., size + half - 1 : size + half + 1] for image in pairs[:-1]])
    starts = torch.cat([image[..., half - 1 : half + 1] for image in pairs[1:]])
    step = (starts[..., 1] - ends[..., 0]).abs().mean()
    usual = torch.stack([ends.diff().abs().mean(), starts.diff().abs().mean()]).mean()
    return {"cut_uncut": float(step / usual), "cut_mismatch": float((ends - starts).abs().mean() / usual)}


def measure_transfer(setting: Setting, count: int) -> dict[str, float]:
    """Transfer parts between unaligned pairs, for each way of aligning the pose; return what is printed."""
    g, models = setting.first, setting.params.models
    landmarks = load_network(models.landmarks, "landmarks").model
    perceptual = load_perceptual(models.perceptual).model
    identity = load_network(models.identity, "identity").model
    found: dict[str, list[float]] = {}
    for seed in range(count):
        w = setting.codes(2, 1000 + seed)
        source, reference = branch(g, w[:1]), branch(g, w[1:])
        before = g.synthesis(w[:1]).clamp(-1, 1)
        points = find_landmarks(landmarks, before)
        for part in ("eyes", "mouth"):
            mask = box_mask([named_box(part, points)])
            outside, inside = regions(mask, g.size)
            for pose, layers in POSES.items():
                after = transfer(source, reference, mask, pose_layers=layers)
                change = (after - before).abs().mean(1, keepdim=True)
                found.setdefault(f"{part}/{pose}", []).append(float(change[outside].mean() / change[inside].mean()))
                rest = torch.where(outside, after, before)
                found.setdefault(f"{part}/{pose}/lpips", []).append(float(perceptual(rest, before)))
                found.setdefault(f"{part}/{pose}/id", []).append(float(cosine(identity(rest), identity(before))))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    for name in (name for name in means if name.count("/") == 1):
        print(
            f"transfer {name}: outside {means[name]:.4f} of inside, LPIPS outside {means[name + '/lpips']:.5f}, "
            f"identity of the rest {means[name + '/id']:.4f}"
        )
    best = [means[f"{part}/all"] for part in ("eyes", "mouth")]
    free = [means[f"{part}/none"] for part in ("eyes", "mouth")]
    return {"outside_change": float(np.mean(best)), "outside_change_unaligned": float(np.mean(free))}


def regions(mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the pixels beyond a margin of an eighth of the picture around a mask, and those it covers above half."""
    soft = F.interpolate(mask, (size, size), mode="bilinear", align_corners=False)
    margin = size // 8
    return F.max_pool2d(soft, 2 * margin + 1, 1, margin) < OUTSIDE, soft > 0.5


def measure_translation(setting: Setting, count: int) -> dict[str, float]:
    """Translate ``count`` portraits; return how far their structure moves, and their distances to the other style."""
    cel = render_cel(sample_factors(range(9_000_000, 9_000_000 + 2 * count)))
    extractor = EXTRACTORS.get("toy-attr")(setting.params.models)
    real = gather(extractor.features(cel).numpy())

    def distances(kept: int, alphas: Sequence[float] = ALPHAS, seed: int = 5, psi: float = 1.0) -> list[float]:
        w = setting.codes(count, seed, psi)
        made = (translations(setting, w, w, alpha, kept) for alpha in alphas)
        return [frechet_distance(real, gather(extractor.features(images).numpy())) for images in made]

    default, truncated = TranslateSpec().kept_layers, setting.params.compose.psi
    falling = distances(default)
    for name, found in (
        (f"{default} kept layers", falling),
        (f"{default} kept layers, truncated", distances(default, psi=truncated)),
        ("6 kept layers", distances(6)),
    ):
        print(f"distance to the cel-shaded set by alpha, {name}: " + ", ".join(f"{d:.3f}" for d in found))
    ends = [falling[-2:], *(distances(default, ALPHAS[-2:], seed) for seed in (6, 7))]
    steps = [last - before for before, last in ends]
    return measure_structure(setting, count) | {
        "style_monotone": float(all(after < before for before, after in pairwise(falling))),
        "style_last_step": float(np.mean(steps)),
        "style_last_step_error": float(np.std(steps, ddof=1) / len(steps) ** 0.5),
    }


def measure_structure(setting: Setting, count: int) -> dict[str, float]:
    """Translate in the source's own style and in that of references; return how far yaw, pitch and smile move."""
    regressor = load_network(setting.params.models.attributes, "attributes").model
    columns = [list(regressor.names).index(name) for name in STRUCTURE]  # type: ignore[arg-type]

    def read(images: Tensor) -> Tensor:
        return regressor(images.clamp(-1, 1))[:, columns] / 2  # from [-1, 1] to shares of the range

    w, default = setting.codes(count, 5), TranslateSpec()
    source = read(translations(setting, w, w, 0.0, 0))
    drifts: dict[tuple[str, int], float] = {}
    for kept in (6, 8, 10):
        for name, codes in (("own", w), ("reference", w.roll(1, 0))):
            drift = (read(translations(setting, w, codes, default.alphas[0], kept)) - source).abs().mean(0)
            drifts[name, kept] = float(drift.max())
            values = ", ".join(f"{n} {d:.3f}" for n, d in zip(STRUCTURE, drift.tolist(), strict=True))
            print(f"drift in the style of its {name}, {kept} kept layers: {values}")
    factors = sample_factors(range(9_000_000, 9_000_000 + count))
    apart = read(render_cel(factors)) - read(render(factors).image)
    for name, error in (("mean error", apart.abs().mean(0)), ("bias", apart.mean(0))):
        print(f"the regressor's {name} between renderings in both styles: " + ", ".join(f"{e:.3f}" for e in error))
    return {
        "structure_drift": drifts["own", default.kept_layers],
        "structure_drift_reference": drifts["reference", default.kept_layers],
        "structure_drift_published": drifts["own", 6],
    }


def translations(setting: Setting, w_plus: Tensor, styles: Tensor, alpha: float, kept: int) -> Tensor:
    """Translate codes in the styles of others, a batch at a time."""
    pairs = zip(w_plus.split(BATCH), styles.split(BATCH), strict=True)
    first, second = setting.first, setting.second
    return torch.cat([translate(branch(first, w), branch(second, style), alpha, kept) for w, style in pairs])


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--panoramas", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--portraits", type=int, default=512)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    keep_freed_memory()
    setting = Setting.load()
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "speed": lambda: print_speeds(setting, options.rounds),
        "seams": lambda: measure_seams(setting, options.panoramas),
        "transfer": lambda: measure_transfer(setting, options.pairs),
        "translation": lambda: measure_translation(setting, options.portraits),
    }
    found = [measures[part]() for part in options.parts]
    print_result(**{name: value for numbers in found for name, value in numbers.items()})


if __name__ == "__main__":
    main()
