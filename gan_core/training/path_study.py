"""Learn paths by several methods and seeds, and measure all of them side by side after the same numbers of moves."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_core.generators.base import Generator
from gan_core.judges.scorers import Scorers
from gan_core.paths.measures import Bench, alignment, bend, match_lengths, mean_errors, reached, round_trip
from gan_core.paths.naming import name_paths, rank_paths
from gan_core.paths.space import sample_codes
from gan_core.paths.stored import SemanticPaths
from gan_core.training.log import Report
from gan_core.training.params import PathsParams, PathStudyParams
from gan_core.training.paths import PathState, recognised, train_paths
from gan_core.training.study import DIGITS, Plan, Scores, Study

CODES_SEED = 77
"""Seeds the codes that paths are measured over, those of ``benchmarks.paths``."""


@dataclass(frozen=True)
class PathStudy(Study[PathState]):
    """A study in one world: its generator, what scores pictures, and ``models``, the path model of each method.

    Methods of a seed are measured over moves of equal lengths, so together. ``scorers`` name the paths; what other
    ``judges`` find of them is in columns of their own, such as ``side_effects by NAME``.
    """

    unit = "moves"
    together = True
    params: PathStudyParams
    generator: Generator
    generator_sha256: str
    scorers: Scorers
    models: Mapping[str, str]
    judges: Mapping[str, Scorers] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        return Plan(self.params.methods, self.params.seeds, self.params.moves)

    @property
    def key(self) -> str:
        """The parameters of each training, the generator, and the networks that judge if there are several."""
        unused = {"steps", "seed"}
        everyone = {"naming": self.scorers, **self.judges} if self.judges else {}
        hashes = {name: (judge.attributes_sha256, judge.identity_sha256) for name, judge in everyone.items()}
        judges = f" {json.dumps(hashes)}" if hashes else ""
        return (
            f"{self.params.paths.model_dump_json(exclude=unused)} {self.params.codes} {self.generator_sha256}{judges}"
        )

    def train(self, method: str, seed: int, budget: int, path: Path, report: Report) -> PathState:
        params = self._params(seed, budget)
        state = PathState.create(self.models[method], params, self.generator, self.generator_sha256)
        train_paths(state, params, self.generator, path, report)
        return state

    def measure(self, seed: int, budget: int, trained: Mapping[str, PathState]) -> dict[str, Scores]:
        params = self._params(seed, budget)
        for state in trained.values():
            self._name(state.paths, params)
        stream = torch.Generator().manual_seed(CODES_SEED)
        codes = sample_codes(self.generator, params.space, self.params.codes, stream)
        far = {method: self._judged(state.paths, codes, self._reached) for method, state in trained.items()}
        match_lengths([state.paths for state in trained.values()])
        return {method: self._scores(method, state, params, codes) | far[method] for method, state in trained.items()}

    def _scores(self, method: str, state: PathState, params: PathsParams, codes: Tensor) -> dict[str, Any]:
        scores: dict[str, Any] = {"seconds": state.seconds, "recognised": recognised(state, params, self.generator)}
        first = PathState.create(self.models[method], params, self.generator, self.generator_sha256)
        scores |= {"alignment": alignment(state.paths, first.paths, codes, params.amounts[1])}
        scores |= {"bend": bend(state.paths, codes, params.amounts[1])}
        scores |= round_trip(state.paths, codes, 2 * params.amounts[1])
        scores |= self._judged(state.paths, codes, mean_errors)
        named = {name: [path.path, round(path.move, DIGITS)] for name, path in state.paths.named.items()}
        return scores | {"named": named}

    def _reached(self, bench: Bench) -> dict[str, float]:
        return {"reached": reached(bench, self.params.paths.move)}

    def _judged(
        self, paths: SemanticPaths, codes: Tensor, measure: Callable[[Bench], dict[str, float]]
    ) -> dict[str, float]:
        """Measure by what names the paths, and by each other judge."""
        found = measure(Bench.of(paths, self.generator, self.scorers, codes))
        for name, scorers in self.judges.items():
            others = measure(Bench.of(paths, self.generator, scorers, codes))
            found |= {f"{key} by {name}": value for key, value in others.items()}
        return found

    def _name(self, paths: SemanticPaths, params: PathsParams) -> None:
        longest = params.amounts[1]
        ranking = rank_paths(paths, self.generator, self.scorers, params.rank_codes, longest, params.seed)
        name_paths(paths, self.generator, self.scorers, ranking, params.attributes, params.move, 2 * longest)

    def _params(self, seed: int, moves: int) -> PathsParams:
        chosen = self.params.paths
        return chosen.model_copy(update={"seed": seed, "steps": -(-moves // chosen.batch_size)})
