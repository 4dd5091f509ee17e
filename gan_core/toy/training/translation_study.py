"""How pSp and pix2pixHD get better with images: ``python -m gan_core.toy.training.translation_study``.

It reads ``study_translations`` of ``toy.yaml``, goes on where it was stopped, and writes a row for each of both and
each task, seed and number of images to ``data/metrics``. ``--workers`` is how many trainings go on beside each other, a
core each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gan_core.device import place
from gan_core.judges.networks import load_network
from gan_core.params import ModelPaths, Params
from gan_core.report.encoder_cost import images_per_second
from gan_core.rows import row_seed
from gan_core.toy.params import ToyParams, TrainPix2PixParams, TrainTranslationParams, TranslationStudyParams
from gan_core.toy.renderer import FACTOR_NAMES, render
from gan_core.toy.training.encoder import teach
from gan_core.toy.training.encoder_scores import BATCH, diversity, statistics_of
from gan_core.toy.training.encoder_state import StudiedState
from gan_core.toy.training.encoder_study import judges_sha256, settings_sha256
from gan_core.toy.training.pix2pix import Pix2PixState, train_pix2pix
from gan_core.toy.training.portraits import PortraitSet, load_portraits
from gan_core.toy.training.reconstruction import LossNetworks
from gan_core.toy.training.study_command import run_command
from gan_core.toy.training.translation import ARCHITECTURE, TranslationTraining, for_inputs, task_training
from gan_core.training.fit import Course
from gan_core.training.log import Report
from gan_core.training.study import Plan, Scores, Study
from gan_core.translation.inputs import EncoderInput
from gan_core.translation.scores import Scorer, Translated
from gan_core.translation.tasks import TASKS

NAME = "study-translations"
RIVALS = ("psp", "pix2pix")
OWN_SCORES = {"frontalisation": "yaw_after", "sketch": "edges", "segmentation": "mean_iou"}
"""What each task is measured by besides."""
REPORT_EVERY = 8_000
VARIED, OUTPUTS, FIRST_MIXED = 64, 4, 5
"""Inputs that get several outputs, how many, and the first latent that differs in them (published: 8 of 18)."""
YAW = FACTOR_NAMES.index("yaw")
Draw = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Translator:
    """What a training has come to: ``draw`` makes pictures ``[B, 3, S, S]`` of inputs, ``vary`` other ones of the same.

    ``vary`` takes the number of the output too.
    """

    draw: Draw
    vary: Callable[[Tensor, int], Tensor]
    parameters: int
    seconds: float


@dataclass(frozen=True)
class Pairs:
    """Inputs ``[N, C, S, S]`` of a task, what should come out ``[N, 3, S, S]``, and how far heads turn ``[N]``."""

    seen: Tensor
    wanted: Tensor
    turn: Tensor


@dataclass(frozen=True)
class TranslationStudy(Study[Translator]):
    """Both rivals on ``tasks``, each with its pairs and the settings of pSp's encoder for it.

    ``held_out`` follows the trainings, and its first portraits judge.
    """

    unit = "images"
    params: TranslationStudyParams
    settings: Mapping[str, TrainTranslationParams]
    tasks: Mapping[str, TranslationTraining]
    models: ModelPaths
    networks: LossNetworks
    regressor: nn.Module
    portraits: PortraitSet
    held_out: PortraitSet

    @property
    def plan(self) -> Plan:
        methods = [f"{rival}-{task}" for task in self.tasks for rival in RIVALS]
        return Plan(methods, self.params.seeds, self.params.images)

    @property
    def key(self) -> str:
        """The number of portraits, and the files of the judges."""
        return f"{self.params.portraits} portraits {judges_sha256(self.models)}"

    def key_of(self, method: str) -> str:
        return settings_sha256(self._settings(method, 0, 1))

    def train(self, method: str, seed: int, budget: int, path: Path, report: Report) -> Translator:
        chosen, task = self._settings(method, seed, budget), self.tasks[_task(method)]
        if isinstance(chosen, TrainPix2PixParams):
            rival = train_pix2pix(
                task, chosen, self.networks, self.portraits, self.held_out, path, report, REPORT_EVERY
            )
            return _pixels(rival)
        state = StudiedState.create(ARCHITECTURE, chosen, self.networks.generator)
        if chosen.start:
            state.begin_from(task.teacher)
        course = Course(budget, chosen.batch_size, seed, REPORT_EVERY, chosen.ema_images, endless=True)
        teach(state, chosen, course, self.networks, self.portraits, self.held_out, path, report, task)
        return _styles(state, self.networks)

    def measure(self, seed: int, budget: int, trained: Mapping[str, Translator]) -> dict[str, Scores]:
        return {method: self._scores(_task(method), found) for method, found in trained.items()}

    @cached_property
    def pairs(self) -> dict[str, Pairs]:
        """What each task is judged by; of frontalisation the renderer draws the same head looking straight ahead."""
        rows = np.arange(min(self.params.portraits, len(self.held_out)))
        factors = torch.from_numpy(self.held_out.factors[rows])
        images, labels = self.held_out.images(rows), torch.from_numpy(np.array(self.held_out.segmentation[rows]))
        ahead = factors.clone()
        ahead[:, YAW] = 0.0
        found = {}
        for name, training in self.tasks.items():
            streams = [torch.Generator().manual_seed(row_seed(f"held out {row}")) for row in rows]
            seen = training.make(images, labels if training.transform.from_labels else None, streams)
            wanted = images
            if training.task.mirror_independently:
                wanted = torch.cat([render(part).image for part in ahead.split(BATCH)])
            found[name] = Pairs(seen, place(wanted), factors[:, YAW].abs())
        return found

    @torch.no_grad()
    def _scores(self, name: str, translator: Translator) -> dict[str, float]:
        pairs, networks = self.pairs[name], self.networks
        drawn = torch.cat([translator.draw(part).clamp(-1, 1) for part in pairs.seen.split(BATCH)])
        every = np.ones(len(drawn), np.int64)
        statistics = statistics_of(networks, self.regressor, pairs.wanted, drawn)
        speed = images_per_second(translator.draw, (pairs.seen.shape[1], *pairs.seen.shape[2:]))
        found = {"seconds": translator.seconds, "parameters": translator.parameters, "seconds_per_picture": 1 / speed}
        found |= {statistic: compute(every) for statistic, compute in statistics.items()}
        seen = [EncoderInput(each) for each in pairs.seen]
        scorer = Scorer([OWN_SCORES[name]], self.models)
        own = scorer.score(Translated(seen, pairs.seen, drawn, [], None))[OWN_SCORES[name]]
        found |= {OWN_SCORES[name]: float(np.mean([value for value in own if value is not None]))}
        if self.tasks[name].task.mirror_independently:
            distances = zip(drawn.split(BATCH), pairs.wanted.split(BATCH), strict=True)
            found |= by_turn(torch.cat([networks.perceptual(*pair) for pair in distances]).cpu(), pairs.turn)
        outputs = torch.stack([translator.vary(pairs.seen[:VARIED], i).clamp(-1, 1) for i in range(OUTPUTS)], 1)
        return found | {"outputs": count_different(outputs), "diversity": diversity(networks.perceptual, outputs)}

    def _settings(self, method: str, seed: int, budget: int) -> TrainTranslationParams | TrainPix2PixParams:
        drawn = {"seed": seed, "images": budget}
        if method.startswith("pix2pix-"):
            return self.params.pix2pix.model_copy(update=drawn)
        task, shared = _task(method), {name: getattr(self.params, name) for name in ("latent_images", "ema_images")}
        return for_inputs(self.tasks[task], self.settings[task].model_copy(update=drawn | shared))


def by_turn(distances: Tensor, turn: Tensor) -> dict[str, float]:
    """Return the mean of ``distances [N]`` over thirds of the rows, from those turned least, and how much it grows."""
    thirds = [distances[rows].mean().item() for rows in turn.argsort().tensor_split(3)]
    named = {f"lpips turn {i}": value for i, value in enumerate(thirds)}
    return named | {"lpips_growth": thirds[-1] - thirds[0]}


def count_different(outputs: Tensor) -> float:
    """Return how many of a row's pictures ``[N, K, 3, H, W]`` differ, as a mean over rows."""
    return sum(len(torch.unique(row.flatten(1), dim=0)) for row in outputs) / len(outputs)


def translation_study(toy: ToyParams, params: Params) -> TranslationStudy:
    """Return the study of ``study_translations``."""
    chosen = toy.study_translations
    settings = {name: toy.train_translation[name] for name in chosen.tasks}
    tasks = {name: task_training(TASKS.get(name), each, params) for name, each in settings.items()}
    regressor = load_network(params.models.attributes, "attributes").model
    sets = load_portraits("train"), load_portraits("held_out")
    return TranslationStudy(chosen, settings, tasks, params.models, LossNetworks.load(params.models), regressor, *sets)


def _task(method: str) -> str:
    return method.partition("-")[2]


def _pixels(state: Pix2PixState) -> Translator:
    count = sum(p.numel() for p in state.average.parameters())
    return Translator(state.average, lambda seen, _: state.average(seen), count, state.seconds)


def _styles(state: StudiedState, networks: LossNetworks) -> Translator:
    """The first output is that of the encoder; of others the latents from ``FIRST_MIXED`` are random styles."""
    encoder, generator = state.latest_average(), networks.generator

    def draw(seen: Tensor) -> Tensor:
        return generator.synthesis(encoder.encode(seen))

    def vary(seen: Tensor, number: int) -> Tensor:
        latents = encoder.encode(seen)
        if number:
            z = torch.randn(len(seen), generator.z_dim, generator=torch.Generator().manual_seed(number))
            latents[:, FIRST_MIXED:] = generator.broadcast(generator.mapping(place(z)))[:, FIRST_MIXED:]
        return generator.synthesis(latents)

    return Translator(draw, vary, sum(p.numel() for p in encoder.parameters()), state.seconds)


def main() -> None:
    """Run the study with the parameters of this folder."""
    run_command(__doc__ or "", {"": (NAME, translation_study)})


if __name__ == "__main__":
    main()
