"""Name learned paths: find the path that changes an attribute, and calibrate its unit of length.

The ranking is that of WarpedGANSpace (Tzelepis et al. 2021, section 4.2): the correlation of an attribute with the
position on the path (``corr``), and its share of all changes along the path (``corr_l1``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gan_core.device import place
from gan_core.generators.base import Generator
from gan_core.judges.moves import direction_with_room, merit, score_move, search_length
from gan_core.judges.scorers import Scored, Scorers, render_and_score
from gan_core.paths.space import codes_to_w_plus, sample_codes
from gan_core.paths.stored import NamedPath, SemanticPaths

PLACES = (-1.0, -0.5, 0.5, 1.0)
"""Positions on a path at which codes are scored, as shares of the longest move."""
CALIBRATION_CODES = 64
CANDIDATES = 3
"""Paths per attribute that are calibrated, at least; each one takes a search over rendered images."""
NEVER = -1e3
"""The merit of a pair that was not tried, below that of any edit."""


@dataclass(frozen=True)
class Ranking:
    """Scores of all paths.

    ``slope [count, attributes]`` is the change per standard deviation of the position, and ``identity [count]`` that of
    the identity. ``corr`` is the absolute slope, and ``corr_l1`` is ``corr`` divided by its sum over the path's
    attributes and identity.
    """

    names: tuple[str, ...]
    slope: Tensor
    identity: Tensor

    @property
    def corr(self) -> Tensor:
        return self.slope.abs()

    @property
    def corr_l1(self) -> Tensor:
        return self.corr / (self.corr.sum(1, keepdim=True) + self.identity[:, None]).clamp_min(1e-12)

    def candidates(self, wanted: Sequence[str], count: int) -> list[tuple[str, int]]:
        """Return the ``count`` paths with the largest ``corr * corr_l1`` for each wanted attribute."""
        found = []
        for name in wanted:
            column = self.names.index(name)
            best = (self.corr * self.corr_l1)[:, column].argsort(descending=True)[:count]
            found += [(name, path) for path in best.tolist()]
        return found


def score_codes(paths: SemanticPaths, generator: Generator, codes: Tensor, scorers: Scorers) -> Scored:
    """Draw codes ``[B, width]`` and read their attributes and identities."""
    return render_and_score(generator, codes_to_w_plus(generator, paths.space, codes), scorers)


@torch.no_grad()
def rank_paths(
    paths: SemanticPaths, generator: Generator, scorers: Scorers, n: int, longest: float, seed: int = 0
) -> Ranking:
    """Move ``n`` random codes along every path, up to ``longest`` in both directions, and score the changes."""
    codes = sample_codes(generator, paths.space, n, torch.Generator().manual_seed(seed))
    start = score_codes(paths, generator, codes, scorers)
    slopes, identities = [], []
    places = place(torch.tensor(PLACES))
    for path in range(paths.model.count):
        seen = [_walked(paths, generator, codes, path, place * longest, scorers) for place in PLACES]
        change = torch.stack([faces.change(start) for faces in seen])
        slopes.append(_slope(change, places).mean(0))
        lost = torch.stack([1 - (faces.identity * start.identity).sum(1) for faces in seen])
        identities.append(_slope(lost[:, :, None], places.abs()).mean().abs())
    return Ranking(scorers.names, torch.stack(slopes).cpu(), torch.stack(identities).cpu())


@torch.no_grad()
def name_path(
    paths: SemanticPaths,
    generator: Generator,
    scorers: Scorers,
    name: str,
    path: int,
    sign: float,
    move: float,
    longest: float,
) -> NamedPath:
    """Calibrate one path on new codes: find the amount that moves the attribute ``name`` by ``move`` of its range."""
    codes = sample_codes(generator, paths.space, CALIBRATION_CODES, torch.Generator().manual_seed(1 + path))
    start = score_codes(paths, generator, codes, scorers)
    column = scorers.names.index(name)
    signs = direction_with_room(start, column)

    def score_at(length: float) -> dict[str, float]:
        which = torch.full((len(codes),), path, device=codes.device)
        moved = paths.move(codes, which, sign * signs * length)
        return score_move(start, score_codes(paths, generator, moved, scorers), column, signs)

    unit, scores = search_length(score_at, move, longest)
    return NamedPath(path, sign * unit, scores["move"], (-1.0, 1.0), scores)


def name_paths(
    paths: SemanticPaths,
    generator: Generator,
    scorers: Scorers,
    ranking: Ranking,
    wanted: Sequence[str],
    move: float,
    longest: float,
) -> Mapping[str, NamedPath]:
    """Assign each wanted attribute its own path; the names are stored in ``paths.named`` and returned.

    The best candidates of the ranking are calibrated, and of these the assignment with the largest sum of merits wins.
    """
    tried = {}
    for name, path in ranking.candidates(wanted, max(CANDIDATES, len(wanted))):
        sign = float(np.sign(ranking.slope[path, ranking.names.index(name)].item())) or 1.0
        tried[name, path] = name_path(paths, generator, scorers, name, path, sign, move, longest)
    paths.named = {name: tried[name, path] for name, path in assign(wanted, tried, move).items()}
    return paths.named


def assign(wanted: Sequence[str], tried: Mapping[tuple[str, int], NamedPath], move: float) -> dict[str, int]:
    """Return a path for each attribute, each path at most once, with the largest sum of merits.

    If there are fewer paths than attributes, some attributes get none.
    """
    numbers = sorted({path for _, path in tried})
    merits = np.full((len(wanted), len(numbers)), NEVER)
    for (name, path), named in tried.items():
        merits[wanted.index(name), numbers.index(path)] = merit(named.scores, move)
    rows, columns = linear_sum_assignment(-merits)
    return {
        wanted[row]: numbers[column] for row, column in zip(rows, columns, strict=True) if merits[row, column] > NEVER
    }


def _walked(
    paths: SemanticPaths, generator: Generator, codes: Tensor, path: int, amount: float, scorers: Scorers
) -> Scored:
    which = torch.full((len(codes),), path, device=codes.device)
    amounts = codes.new_full((len(codes),), amount)
    return score_codes(paths, generator, paths.move(codes, which, amounts), scorers)


def _slope(values: Tensor, places: Tensor) -> Tensor:
    """Return the covariance ``[B, A]`` of ``values [P, B, A]`` and ``places [P]``, over the deviation of the places."""
    away = places - places.mean()
    return (values * away[:, None, None]).mean(0) / away.square().mean().sqrt()
