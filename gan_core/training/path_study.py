"""Learn paths by several methods and seeds, and measure all of them side by side after the same numbers of moves."""

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gan_core.errors import ParamsError
from gan_core.generators.base import Generator
from gan_core.judges.scorers import Scorers
from gan_core.paths.measures import Bench, bend, match_lengths, mean_errors, round_trip
from gan_core.paths.naming import name_paths, rank_paths
from gan_core.paths.space import sample_codes
from gan_core.paths.stored import SemanticPaths
from gan_core.training.beside import in_processes
from gan_core.training.log import Report
from gan_core.training.params import PathsParams, PathStudyParams
from gan_core.training.paths import PathState, recognised, train_paths

CODES_SEED = 77
"""Seeds the codes that paths are measured over, those of ``benchmarks.paths``."""
DIGITS = 6
Row = dict[str, Any]


@dataclass(frozen=True)
class PathStudy:
    """A study in one world: its generator, what scores pictures, and ``models``, the path model of each method."""

    params: PathStudyParams
    generator: Generator
    generator_sha256: str
    scorers: Scorers
    models: Mapping[str, str]

    def run(self, folder: Path, target: Path, report: Callable[[str], Report], workers: int = 1) -> list[Row]:
        """Train and measure, or go on in ``folder``; ``target`` gets a row for each method, seed and number of moves.

        All trainings reach a number of moves before any goes further, so that what is written at any time compares
        equal budgets. With more than one of ``workers`` they go on beside each other, which changes no result.
        """
        rows = stored_rows(target, self.key)
        for moves in self.params.moves:
            done = {row["seed"] for row in rows if row["moves"] == moves}
            seeds = [seed for seed in self.params.seeds if seed not in done]
            if workers > 1:
                pairs = itertools.product(self.params.methods, seeds)
                in_processes([partial(self._train, *pair, moves, folder, report) for pair in pairs], workers)
            for seed in seeds:
                states = {method: self._train(method, seed, moves, folder, report) for method in self.params.methods}
                rows += self._measure(seed, moves, states)
                write_rows(target, self.key, rows)
        return rows

    @property
    def key(self) -> str:
        """What all rows of one file have in common: the parameters of each training, and the generator."""
        unused = {"steps", "seed"}
        return f"{self.params.paths.model_dump_json(exclude=unused)} {self.params.codes} {self.generator_sha256}"

    def _train(self, method: str, seed: int, moves: int, folder: Path, report: Callable[[str], Report]) -> PathState:
        """Bring a training to so many moves; its state stays in ``folder``."""
        name, params = f"{method}-{seed}", self._params(seed, moves)
        state = PathState.create(self.models[method], params, self.generator, self.generator_sha256)
        train_paths(state, params, self.generator, folder / f"{name}.pt", report(name))
        if state.seen > params.steps * params.batch_size:
            raise ParamsError(f"{folder}/{name}.pt has seen {state.seen} moves, too many for {moves}: remove it")
        return state

    def _measure(self, seed: int, moves: int, states: Mapping[str, PathState]) -> list[Row]:
        params = self._params(seed, moves)
        for state in states.values():
            self._name(state.paths, params)
        match_lengths([state.paths for state in states.values()])
        stream = torch.Generator().manual_seed(CODES_SEED)
        codes = sample_codes(self.generator, params.space, self.params.codes, stream)
        rows = []
        for method, state in states.items():
            scores = {"seconds": state.seconds, "recognised": recognised(state, params, self.generator)}
            scores |= {"bend": bend(state.paths, codes, params.amounts[1])}
            scores |= round_trip(state.paths, codes, 2 * params.amounts[1])
            scores |= mean_errors(Bench.of(state.paths, self.generator, self.scorers, codes))
            named = {name: [path.path, round(path.move, DIGITS)] for name, path in state.paths.named.items()}
            rounded = {name: float(f"{value:.{DIGITS}g}") for name, value in scores.items()}
            rows.append({"method": method, "seed": seed, "moves": moves} | rounded | {"named": named})
        return rows

    def _name(self, paths: SemanticPaths, params: PathsParams) -> None:
        longest = params.amounts[1]
        ranking = rank_paths(paths, self.generator, self.scorers, params.rank_codes, longest, params.seed)
        name_paths(paths, self.generator, self.scorers, ranking, params.attributes, params.move, 2 * longest)

    def _params(self, seed: int, moves: int) -> PathsParams:
        chosen = self.params.paths
        return chosen.model_copy(update={"seed": seed, "steps": -(-moves // chosen.batch_size)})


def stored_rows(target: Path, key: str) -> list[Row]:
    """Return the rows that a study wrote with this ``key``, none if there are none."""
    stored = json.loads(target.read_text()) if target.exists() else {}
    return list(stored["rows"]) if stored.get("key") == key else []


def write_rows(target: Path, key: str, rows: Sequence[Row]) -> None:
    """Write ``rows`` atomically, one a line, after the ``key`` that they have in common."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    temporary = target.with_suffix(".tmp")
    temporary.write_text(f'{{"key": {json.dumps(key)}, "rows": [\n{lines}\n]}}\n')
    os.replace(temporary, target)
