"""How encoders get better with images: ``python -m gan_core.toy.training.encoder_study``.

It reads ``study_encoders`` of ``toy.yaml``, goes on where it was stopped, and writes a row for each encoder, seed and
number of images to ``data/metrics``. ``--workers`` is how many trainings go on beside each other, a core each.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gan_core.checkpoints.files import file_sha256
from gan_core.device import place
from gan_core.editing.directions import Direction, load_directions
from gan_core.editing.latent_editor import LatentEditor, load_editor
from gan_core.encoders.base import Encoder
from gan_core.judges.networks import load_network
from gan_core.judges.scorers import Scorers, load_scorers
from gan_core.loading import load_generator
from gan_core.params import ModelPaths, Params
from gan_core.report.encoder_cost import images_per_second
from gan_core.sections import Section
from gan_core.toy.params import EncoderStudyParams, ToyParams
from gan_core.toy.training.encoder import teach
from gan_core.toy.training.encoder_scores import (
    draw,
    edit_scores,
    editability,
    edited_diversity,
    edited_latents,
    reconstruct,
    statistics_of,
    true_diversity,
)
from gan_core.toy.training.encoder_state import StudiedState
from gan_core.toy.training.portraits import PortraitSet, load_portraits
from gan_core.toy.training.reconstruction import LossNetworks
from gan_core.toy.training.study_command import run_command
from gan_core.training.fit import Course
from gan_core.training.log import Report
from gan_core.training.study import Plan, Scores, Study

NAME = "study-encoders"
JUDGES = ("generator", "perceptual", "identity", "attributes", "directions", "latent_edits")
REPORT_EVERY = 10_000


@dataclass(frozen=True)
class Bench:
    """What encoders are judged by: ``images [N, 3, H, W]`` and ``factors [N, F]`` of portraits, networks and edits."""

    params: Params
    networks: LossNetworks
    regressor: nn.Module
    scorers: Scorers
    directions: Mapping[str, Direction]
    editor: LatentEditor
    images: Tensor
    factors: Tensor

    @classmethod
    def load(cls, params: Params, portraits: PortraitSet, count: int) -> "Bench":
        """Load the networks of ``params.models``; the first ``count`` portraits judge."""
        models, rows = params.models, np.arange(min(count, len(portraits)))
        generator = load_generator(models.generator)
        return cls(
            params,
            LossNetworks.load(models),
            load_network(models.attributes, "attributes").model,
            load_scorers(models),
            load_directions(models.directions, generator).model,
            load_editor(models.latent_edits, generator).model,
            place(portraits.images(rows)),
            torch.from_numpy(portraits.factors[rows]),
        )

    @cached_property
    def true_diversity(self) -> float:
        """How much references should change: the mean over the attributes that can be taken from them."""
        names = list(self.editor.blocks)
        return sum(true_diversity(self.networks.perceptual, self.factors, name) for name in names) / len(names)

    def scores(self, encoder: Encoder) -> dict[str, float]:
        """Reconstructions and edits as in ``benchmarks.encoder_variants``, and what ``reference_diversity`` is left.

        That is the mean distance of two edits of one portrait by different references, as a share of the same distance
        where the renderer draws them.
        """
        latents, drawn = reconstruct(encoder, self.networks, self.images)
        every = np.ones(len(self.images), np.int64)
        statistics = statistics_of(self.networks, self.regressor, self.images, drawn)
        found = {name: statistic(every) for name, statistic in statistics.items()}
        found |= edit_scores(self.params, self.networks, self.regressor, self.directions, latents, self.images)
        moved = edited_latents(latents, self.directions, self.factors)
        edited = {name: draw(self.networks, codes) for name, codes in moved.items()}
        found |= editability(self.scorers, self.images, drawn, edited, self.factors)
        names = list(self.editor.blocks)
        differing = [edited_diversity(self.networks, self.editor, latents, self.factors, name) for name in names]
        return found | {"reference_diversity": sum(differing) / len(differing) / self.true_diversity}


@dataclass(frozen=True)
class EncoderStudy(Study[StudiedState]):
    """Encoders of one generator, from ``portraits``; ``held_out`` follows their trainings, ``bench`` judges them."""

    unit = "images"
    params: EncoderStudyParams
    models: ModelPaths
    networks: LossNetworks
    portraits: PortraitSet
    held_out: PortraitSet
    bench: Bench

    @property
    def plan(self) -> Plan:
        return Plan(list(self.params.encoders), self.params.seeds, self.params.images, self.params.further)

    @property
    def key(self) -> str:
        """The number of portraits, and the files of the judges."""
        return f"{len(self.bench.images)} portraits {judges_sha256(self.models)}"

    def key_of(self, method: str) -> str:
        return settings_sha256(self.params.encoders[method])

    def train(self, method: str, seed: int, budget: int, path: Path, report: Report) -> StudiedState:
        chosen = self.params.encoders[method].model_copy(update={"seed": seed, "images": budget})
        state = StudiedState.create(chosen.architecture, chosen, self.networks.generator)
        course = Course(budget, chosen.batch_size, seed, REPORT_EVERY, chosen.ema_images, endless=True)
        teach(state, chosen, course, self.networks, self.portraits, self.held_out, path, report)
        return state

    def measure(self, seed: int, budget: int, trained: Mapping[str, StudiedState]) -> dict[str, Scores]:
        return {method: self._scores(state) for method, state in trained.items()}

    def _scores(self, state: StudiedState) -> Scores:
        encoder = state.latest_average()
        cost = {
            "parameters": sum(p.numel() for p in encoder.parameters()),
            "seconds_per_picture": 1 / images_per_second(encoder.encode, (3, *encoder.input_shape)),
        }
        return {"seconds": state.seconds} | cost | self.bench.scores(encoder)


def judges_sha256(models: ModelPaths) -> str:
    """Return a hash of the files that rows are measured by."""
    hashes = [file_sha256(getattr(models, name)) for name in JUDGES]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def settings_sha256(chosen: Section) -> str:
    """Return a short hash of a training's settings, without its seed and its number of images."""
    return hashlib.sha256(chosen.model_dump_json(exclude={"seed", "images"}).encode()).hexdigest()[:12]


def encoder_study(toy: ToyParams, params: Params) -> EncoderStudy:
    """Return the study of ``study_encoders``."""
    chosen: EncoderStudyParams = toy.study_encoders
    train, held_out = load_portraits("train"), load_portraits("held_out")
    bench = Bench.load(params, held_out, chosen.portraits)
    return EncoderStudy(chosen, params.models, bench.networks, train, held_out, bench)


def main() -> None:
    """Run the study with the parameters of this folder."""
    run_command(__doc__ or "", {"": (NAME, encoder_study)})


if __name__ == "__main__":
    main()
