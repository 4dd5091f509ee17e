"""SOAT against SinGAN: wide pictures of one portrait, and blends of two, by both, measured side by side."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from gan_core.compose.operations import Stretch, extend, interpolate
from gan_core.compose.panorama import seam_score
from gan_core.device import place
from gan_core.errors import ParamsError
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import Axis
from gan_core.judges.scorers import Reader
from gan_core.metrics.base import State
from gan_core.metrics.frechet import frechet_distance, gather_positions
from gan_core.singan.collage import collage, pasted_share
from gan_core.training.beside import in_processes
from gan_core.training.fit import clock
from gan_core.training.log import Report
from gan_core.training.params import SinganParams, SinganStudyParams
from gan_core.training.singan import SinganState, train_singan
from gan_core.training.study import Row, stored_rows, write_rows

SINGAN, SOAT, COLLAGE = "singan", "soat", "collage"
DIGITS = 5
MOST_PICTURES = 64
"""Portraits that are kept for each seed, so that more of them don't change which ones they are."""
OTHERS_FROM = 4_000
"""Number of the first held-out portrait that results are compared with: no seed below 62 has it."""
AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass
class Made:
    """What a method made of a group of portraits, and the ``seconds`` that it took in all.

    ``wide [N * samples, 3, H, 2 W]`` are of one portrait each, ``blends`` by axis ``[N, 3, H, W]`` of one and the next.
    """

    wide: Tensor | None = None
    blends: dict[Axis, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add what a block takes."""
        started = clock()
        yield
        self.seconds += clock() - started


@dataclass(frozen=True)
class SinganStudy:
    """The study, with what it needs: portraits by their first number and count, and networks.

    ``encode`` gives the latents that SOAT begins with, ``judge`` features of images ``[B, D]``, ``patches`` feature
    maps ``[B, C, h, w]``; names of measures end in ``judge_name`` and ``patches_name``. ``networks`` stands for the
    weights of all networks.
    """

    params: SinganStudyParams
    portraits: Callable[[int, int], Tensor]
    generator: StyleGAN2
    encode: Reader
    judge: Reader
    patches: Reader
    judge_name: str
    patches_name: str
    networks: str

    @property
    def key(self) -> str:
        """What all rows of one file have in common."""
        return f"{self.params.model_dump_json(exclude={'seeds', 'together'})} {self.networks}"

    def run(self, folder: Path, target: Path, report: Callable[[str], Report], workers: int = 1) -> list[Row]:
        """Train and measure, or go on in ``folder``; ``target`` gets a row for each seed and method.

        With more than one of ``workers`` trainings of a seed go on beside each other, which changes no result.
        """
        rows = stored_rows(target, self.key)
        others: Tensor | None = None
        for seed in [seed for seed in self.params.seeds if seed not in {row["seed"] for row in rows}]:
            if workers > 1:
                in_processes([partial(self.train, seed, start, folder, report) for start in self.starts], workers)
            states = [self.train(seed, start, folder, report) for start in self.starts]
            others = self._others() if others is None else others
            rows += self.measure(seed, states, others)
            write_rows(target, self.key, rows)
        return rows

    def group(self, seed: int) -> Tensor:
        """Return the portraits of a seed, ``[pictures, 3, H, W]`` in [-1, 1]."""
        return self.portraits(seed * MOST_PICTURES, self.params.pictures)

    @property
    def starts(self) -> range:
        """The first portraits of those that are trained together."""
        return range(0, self.params.pictures, self.params.together)

    def train(self, seed: int, start: int, folder: Path, report: Callable[[str], Report]) -> SinganState:
        """Train the SinGANs of some of a seed's portraits to their end; their state stays in ``folder``."""
        state, path = self._begun(seed, start, folder)
        train_singan(state, self._params(seed), path, report(path.stem))
        return state

    def trained(self, seed: int, folder: Path) -> list[SinganState]:
        """Return the ended trainings of a seed that ``folder`` keeps; raises ``ParamsError`` if one isn't there."""
        states = []
        for start in self.starts:
            state, path = self._begun(seed, start, folder)
            state.load(path)
            if state.seen < len(state.reals) * self.params.singan.iterations:
                raise ParamsError(f"{path} isn't trained to its end: run the study again, it goes on there")
            state.model.eval().requires_grad_(False)
            states.append(state)
        return states

    def _begun(self, seed: int, start: int, folder: Path) -> tuple[SinganState, Path]:
        pictures = self.group(seed)[start : start + self.params.together]
        state = SinganState.create(pictures, self._params(seed))
        if self.params.paste_at >= len(state.reals):
            raise ParamsError(f"study_singan.paste_at {self.params.paste_at}: there are {len(state.reals)} scales")
        return state, folder / f"{seed}-{start}-{len(pictures)}.pt"

    def _params(self, seed: int) -> SinganParams:
        return self.params.singan.model_copy(update={"seed": seed})

    @torch.no_grad()
    def make(self, seed: int, states: Sequence[SinganState]) -> dict[str, Made]:
        """Let all methods make what is measured, of the portraits of a seed."""
        pictures = place(self.group(seed))
        plain = Made(blends={axis: collage(pictures, pictures.roll(-1, 0), axis) for axis in AXES})
        singan = self._by_singan(seed, states, plain, pictures)
        return {SINGAN: singan, **self._by_soat(seed, pictures), COLLAGE: plain}

    def measure(self, seed: int, states: Sequence[SinganState], others: Tensor) -> list[Row]:
        """Return a row of measures for each method."""
        pictures = place(self.group(seed))
        rows = []
        for method, made in self.make(seed, states).items():
            found = {} if method == COLLAGE else {"seconds": made.seconds / len(pictures)}
            if made.wide is not None:
                repeated = pictures.repeat_interleave(self.params.samples, 0)
                found |= self._scores("wide", made.wide, [repeated], others, "horizontal")
            for axis, blends in made.blends.items():
                found |= self._scores(axis, blends, [pictures, pictures.roll(-1, 0)], others, axis)
            rounded = {name: float(f"{value:.{DIGITS}g}") for name, value in found.items()}
            rows.append({"method": method, "seed": seed, "pictures": len(pictures)} | rounded)
        return rows

    def _by_singan(self, seed: int, states: Sequence[SinganState], plain: Made, pictures: Tensor) -> Made:
        made, stream = Made(seconds=sum(state.seconds for state in states)), torch.Generator().manual_seed(seed)
        counts, (height, width) = [state.model.pictures for state in states], pictures.shape[2:]
        wide = []
        with made.timed():
            for state in states:
                drawn = state.model.sample(stream, self.params.samples, (height, 2 * width))
                wide.append(drawn.transpose(0, 1).flatten(0, 1))
        made.wide = torch.cat(wide)
        for axis, images in plain.blends.items():
            parts = zip(states, images.split(counts), strict=True)
            anew = [state.model.put_in(part[None], self.params.paste_at, stream)[0] for state, part in parts]
            share = pasted_share(height if axis == "vertical" else width, axis).to(pictures)
            made.blends[axis] = torch.lerp(pictures, torch.cat(anew), share)
        return made

    def _by_soat(self, seed: int, pictures: Tensor) -> dict[str, Made]:
        """Extend with new noise for each sample, and blend with the stored noise, both as published."""
        found: dict[str, Made] = {}
        for mode in self.params.extensions:
            made = found[f"{SOAT} {mode}" if found else SOAT] = Made()
            with made.timed():
                codes = self.encode(pictures)
                made.wide = self._extended(codes.repeat_interleave(self.params.samples, 0), mode, seed)
            if len(found) == 1:
                first, second = (self.generator.branch(self.generator.styles(w)) for w in (codes, codes.roll(-1, 0)))
                made.blends = {axis: interpolate(first, second, axis) for axis in AXES}
        return found

    def _extended(self, codes: Tensor, mode: Stretch, seed: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return extend(self.generator.branch(self.generator.styles(codes), noise="random"), mode)

    def _scores(
        self, name: str, images: Tensor, sources: Sequence[Tensor], others: Tensor, axis: Axis
    ) -> dict[str, float]:
        """Score images against each of their sources, and each of them against the nearest of other portraits.

        Lines where pictures may meet are at a quarter and three quarters of wide images, and in the middle of blends.
        The distance to the nearest is a share of what other portraits have to the nearest of each other, on average.
        """
        height, width = images.shape[2:]
        length = width if axis == "horizontal" else height
        lines = [length // 4, 3 * length // 4] if width > height else [length // 2]
        seams = [seam_score(image, lines, axis) for image in images.split(1)]
        these = self._each(images)
        apart = [frechet_distance(*pair) for real in sources for pair in zip(self._each(real), these, strict=True)]
        squares = torch.cat([images[..., at : at + height] for at in range(0, width - height + 1, height // 2)])
        return {
            f"{name} sifid/{self.patches_name}": sum(apart) / len(apart),
            f"{name} nearest/{self.judge_name}": (_to_nearest(self.judge(squares), others) / _apart(others)).item(),
            f"{name} seam": sum(seams) / len(seams),
        }

    def _each(self, images: Tensor) -> list[State]:
        return [gather_positions(self.patches(image)) for image in images.split(1)]

    @torch.no_grad()
    def _others(self) -> Tensor:
        return self.judge(place(self.portraits(OTHERS_FROM, self.params.others)))


def _to_nearest(features: Tensor, others: Tensor) -> Tensor:
    return torch.cdist(features, others).amin(1).mean()


def _apart(features: Tensor) -> Tensor:
    """Return the mean distance of features ``[N, D]`` to the nearest of the other ones."""
    return torch.cdist(features, features).fill_diagonal_(math.inf).amin(1).mean()
