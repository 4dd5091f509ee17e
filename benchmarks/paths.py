"""Linear, warped and curvilinear paths side by side: ``python -m benchmarks.paths``.

For the portraits (StyleGAN2, paths in w) and the digits (SNGAN, paths in z), over 200 codes that nothing was fitted on,
each edited to the side where its attribute has room, every method by what moves the attribute equally far:

* commutativity error of a pair (k, l), per attribute, in % of the attribute's own mean change by its edit. ``order``:
  the attribute after k then l against after l then k. ``undo``: after k, l, minus k, minus l against the start;
* side effects: the change of attribute l by the edit of k, in % of its change by its own edit (100 on the diagonal);
* identity error: 100 (1 - cosine) of the identity embeddings before and after. Of digits: how much the belief which
  digit it is has changed.

Printed as mean ± standard deviation over codes (of a mean over codes: over attributes). ``roundtrip`` is the largest
``|f^-1(f(z)) - z|`` and ``commutator`` the largest difference of two orders, over 1,000 codes moved by up to 3 units of
the longest path, in float32 and in the frame's standard deviations. ``edit_time_ratio``: 64 edits of three attributes
in w (d = 512, the published network) against drawing these 64 at 256 px (``edit_time_of_one_picture``: against one of
them); ``adaptive_time_ratio`` the same with the adaptive solver of the publication. ``--pictures`` writes a strip per
world.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.harness import print_result, shortest
from gan_core.generators.base import Generator
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.judges.scorers import Scorers
from gan_core.loading import load_generator
from gan_core.params import load_params
from gan_core.paths.base import Straightening
from gan_core.paths.flow import Curvilinear
from gan_core.paths.measures import (
    Bench,
    changes,
    commutativity_errors,
    match_lengths,
    mean_errors,
    round_trip,
    side_effect_matrix,
)
from gan_core.paths.space import codes_to_w_plus, sample_codes
from gan_core.paths.stored import SemanticPaths, load_paths
from gan_core.toy.params import load_toy_params
from gan_core.toy.training.paths import METHODS, digit_fit, portrait_fit
from gan_core.training.fit_paths import PathFit
from gan_core.training.log import tile

WORLDS: dict[str, Callable[[str], PathFit]] = {
    "portraits": lambda method: portrait_fit(method, load_toy_params().train_paths, load_params().models),
    "digits": lambda method: digit_fit(method, load_toy_params().train_digit_paths),
}
CALLED = {"order": "commutativity"}
SEED = 77
EXACT_CODES = 1000
STRENGTHS = (-1.0, -0.5, 0.0, 0.5, 1.0)
EDITS, DRAWN, SHOWN = 64, 4, 64
MARGIN = 90


@dataclass(frozen=True)
class World:
    """A generator, what scores its pictures, and the paths of every trained method, with the seconds it took.

    Units are made equally long.
    """

    name: str
    generator: Generator
    scorers: Scorers
    methods: dict[str, tuple[SemanticPaths, float]]

    @classmethod
    def load(cls, name: str) -> "World":
        """Read what lies in ``data/models``."""
        methods: dict[str, tuple[SemanticPaths, float]] = {}
        jobs = {method: WORLDS[name](method) for method in METHODS}
        generator = load_generator(jobs["linear"].generator_path)
        for method, job in jobs.items():
            if job.target.is_file():
                found = load_paths(job.target, generator)
                methods[method] = (found.model, found.card.extra["scores"]["train_seconds"])
        if not methods:
            raise SystemExit(f"no paths of {name} in data/models: train them with `dvc repro`")
        match_lengths([paths for paths, _ in methods.values()])
        return cls(name, generator.model, jobs["linear"].scorers, methods)

    def codes(self, space: str, count: int, seed: int) -> Tensor:
        """Draw codes ``[count, width]`` that nothing was fitted on."""
        return sample_codes(self.generator, space, count, torch.Generator().manual_seed(seed))


def compare(world: World, count: int) -> dict[str, dict[str, float]]:
    """Measure and print all methods of a world; return means in % by measure and method."""
    means: dict[str, dict[str, float]] = {key: {} for key in ("commutativity", "undo", "side_effects", "identity")}
    for method, (paths, seconds) in world.methods.items():
        bench = Bench.of(paths, world.generator, world.scorers, world.codes(paths.space, count, SEED))
        print(f"\n{world.name}, {method} ({paths.model.name}), {count} codes, trained in {seconds:.0f} s")
        print_commutativity(bench)
        print_changes(bench)
        for measure, mean in mean_errors(bench).items():
            means[CALLED.get(measure, measure)][method] = mean
    return means


def print_commutativity(bench: Bench) -> None:
    """Print a line a pair."""
    for first, second in combinations(bench.paths.named, 2):
        errors = commutativity_errors(bench, first, second)
        shown = (f"{key} {error.mean():.3f} ± {error.std():.3f}" for key, error in errors.items())
        print(f"  commutativity error, %  {first} and {second}: {', '.join(shown)}")


def print_changes(bench: Bench) -> None:
    """Print the side-effect matrix and the identity errors."""
    moved, lost = changes(bench)
    matrix, names = side_effect_matrix(moved), list(bench.paths.named)
    print(f"  side effects, %         {'':16} {' '.join(f'{name:>15}' for name in names)}")
    for name, row in zip(names, matrix, strict=True):
        print(f"  {'':23} {name:16} {' '.join(f'{value:15.1f}' for value in row)}")
    others = matrix[~torch.eye(len(names), dtype=torch.bool) & matrix.isfinite()]
    print(f"  side effects, %         mean of the others {others.mean():.1f} ± {others.std():.1f}")
    shown = (f"{name} {row.mean():.1f} ± {row.std():.1f}" for name, row in zip(names, lost, strict=True))
    print(f"  identity error, %       {', '.join(shown)}; mean {lost.mean():.1f}", flush=True)


@torch.no_grad()
def exactness(world: World) -> dict[str, float]:
    """Print the round trip and the commutator of every method; return those of the curvilinear flow."""
    kept = {}
    for method, (paths, _) in world.methods.items():
        codes = world.codes(paths.space, EXACT_CODES, SEED + 1)
        found = round_trip(paths, codes, 3 * max(abs(named.unit) for named in paths.named.values()))
        if isinstance(paths.model, Straightening):
            start = paths.frame.coordinates(codes)
            found["roundtrip"] = (paths.model.inverse(paths.model(start)) - start).abs().max().item()
        print(
            f"{world.name}, {method}: " + ", ".join(f"{name} {value:.1e}" for name, value in found.items()), flush=True
        )
        if method == "curvilinear":
            kept = found
    return kept


@torch.no_grad()
def edit_times() -> dict[str, float]:
    """Print how long 64 edits take by either solver, and 64 pictures (16 times four); return the ratios."""
    torch.manual_seed(0)
    codes, generator = torch.randn(EDITS, 512), StyleGAN2(256).eval()
    amounts = torch.zeros(EDITS, 512)
    amounts[:, :3] = torch.tensor([3.0, -2.0, 1.0])
    flow = Curvilinear(512)
    latents = generator.broadcast(codes[:DRAWN]).contiguous()
    times = {"steps": shortest(lambda: flow.move_all(codes, amounts), 3)}
    flow.tolerance = 1e-5
    times["tolerance 1e-5"] = shortest(lambda: flow.move_all(codes, amounts), 3)
    drawing = shortest(lambda: generator.synthesis(latents), 2) * EDITS / DRAWN
    for name, value in times.items():
        print(
            f"{EDITS} edits in w (512), {name}: {value:.2f} s, {value / drawing:.3f} of drawing them ({drawing:.1f} s)"
        )
    return {
        "edit_time_ratio": times["steps"] / drawing,
        "adaptive_time_ratio": times["tolerance 1e-5"] / drawing,
        "edit_time_of_one_picture": times["steps"] / drawing * EDITS,
    }


@torch.no_grad()
def draw_strips(world: World, target: Path, row: int) -> None:
    """Write one picture: for every attribute a row, in it every method, one code from end to end."""
    generator, methods, rows = world.generator, world.methods, []
    for name in next(iter(methods.values()))[0].named:
        for paths, _ in methods.values():
            code = world.codes(paths.space, row + 1, SEED)[row:]
            moved = paths.edit(code.expand(len(STRENGTHS), -1), {name: torch.tensor(STRENGTHS)})
            rows.append(generator.synthesis(codes_to_w_plus(generator, paths.space, moved)))
    images = torch.nn.functional.interpolate(torch.cat(rows), scale_factor=float(max(1, SHOWN // generator.size)))
    names = list(next(iter(methods.values()))[0].named)
    target.parent.mkdir(parents=True, exist_ok=True)
    label(tile(images, len(STRENGTHS) * len(methods)), names, list(methods)).save(target, quality=90)
    print(f"{target}: strengths {STRENGTHS[0]:+g} to {STRENGTHS[-1]:+g}")


def label(grid: Image.Image, rows: list[str], columns: list[str]) -> Image.Image:
    """Write a name before every row and above every block of columns."""
    page = Image.new("RGB", (grid.width + MARGIN, grid.height + MARGIN // 5), "white")
    page.paste(grid, (MARGIN, MARGIN // 5))
    pen = ImageDraw.Draw(page)
    for i, name in enumerate(rows):
        top = MARGIN // 5 + i * grid.height / len(rows)
        pen.text((4, top + 0.4 * grid.height / len(rows)), name.replace("_", " "), "black")
        pen.line((0, top, page.width, top), "white", 2)
    for i, name in enumerate(columns):
        left = MARGIN + i * grid.width / len(columns)
        pen.text((left + 4, 4), name, "black")
        pen.line((left, 0, left, page.height), "white", 4)
    return page


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codes", type=int, default=200)
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--pictures", type=Path, help="a folder for the strips")
    parser.add_argument("--row", type=int, default=3, help="which code the strips show")
    options = parser.parse_args()
    results: dict[str, float | dict[str, float]] = {}
    for world in map(World.load, options.worlds):
        prefix = "" if world.name == options.worlds[0] else f"{world.name}_"
        results |= {prefix + key: value for key, value in compare(world, options.codes).items()}
        results |= {prefix + key: value for key, value in exactness(world).items() if key != "undone"}
        if options.pictures is not None:
            draw_strips(world, options.pictures / f"paths-{world.name}.jpg", options.row)
    print_result(**results, **edit_times())


if __name__ == "__main__":
    main()
