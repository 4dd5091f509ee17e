"""The encoder of a translation task, by the loop that trains every encoder."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_core.device import on_host, place
from gan_core.encoders.base import Encoder
from gan_core.generators.base import Generator
from gan_core.loading import load_encoder, load_generator
from gan_core.params import Params
from gan_core.rows import row_seed
from gan_core.toy.params import TrainTranslationParams
from gan_core.toy.training.encoder import store_encoder, train_encoder
from gan_core.toy.training.portraits import PortraitSet, load_portraits
from gan_core.toy.training.reconstruction import Batch, LossNetworks, TrainingTask, evaluate, resample
from gan_core.training.log import Report
from gan_core.translation.inputs import INPUTS, InputTransform, mirror_labels
from gan_core.translation.tasks import TASKS, TranslationTask, decoder_path, translator_path

ARCHITECTURE = "psp"


class TranslationTraining(TrainingTask):
    """From what a task's encoder sees of a portrait to the portrait, whose latents are those that ``teacher`` finds.

    ``teacher`` is the encoder of inversion. Where source and target are mirrored apart, the mean of what is
    learnt is a face that looks straight ahead.
    """

    def __init__(self, task: TranslationTask, transform: InputTransform, teacher: Encoder) -> None:
        self.task, self.transform, self.teacher = task, transform, teacher

    def draw(
        self, portraits: PortraitSet, generator: Generator, size: int, sampled: int, stream: torch.Generator
    ) -> Batch:
        rows = torch.randint(len(portraits), (size,), generator=stream).numpy()
        images, labels = self._turn(portraits, rows, stream)
        with torch.no_grad():
            known = self.teacher.encode(place(images[:sampled])) if sampled else torch.zeros(0)
        source = _mirror_half(images, stream) if self.task.mirror_independently else images
        return Batch(place(images), known, self.make(source, labels, [stream] * size))

    def show(self, portraits: PortraitSet, rows: NDArray[np.int64]) -> Batch:
        images, labels = portraits.images(rows), None
        if self.transform.from_labels:
            labels = torch.from_numpy(np.array(portraits.segmentation[rows]))
        streams = [torch.Generator().manual_seed(row_seed(f"held out {row}")) for row in rows]
        target = _mirror_half(images, torch.Generator().manual_seed(0)) if self.task.mirror_independently else images
        return Batch(place(target), torch.zeros(0), self.make(images, labels, streams))

    def make(self, images: Tensor, labels: Tensor | None, streams: list[torch.Generator]) -> Tensor:
        """What the encoder sees of images ``[B, 3, S, S]``, and label ids ``[B, S, S]``, each from its own stream."""
        maps = [None] * len(images) if labels is None else labels
        with on_host():
            made = [self.transform.make(*row).tensor for row in zip(images, maps, streams, strict=True)]
        return place(torch.stack(made))

    def visible(self, inputs: Tensor) -> Tensor:
        return self.transform.show(inputs)

    def _turn(
        self, portraits: PortraitSet, rows: NDArray[np.int64], stream: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Portraits, mirrored at random; those with label maps stay on their pixels."""
        images = portraits.images(rows)
        if not self.transform.from_labels:
            return resample(images, stream), None
        labels = torch.from_numpy(np.array(portraits.segmentation[rows]))
        mirrored = torch.rand(len(images), generator=stream) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        return images, torch.where(mirrored[:, None, None], mirror_labels(labels), labels)


def task_training(task: TranslationTask, chosen: TrainTranslationParams, params: Params) -> TranslationTraining:
    """Return the pairs of a task, whose latents are those that the project's encoder of inversion finds."""
    inversion = load_encoder(params.models.encoder, load_generator(params.models.generator), ARCHITECTURE).model
    return TranslationTraining(task, INPUTS.get(task.input_kind)(chosen.factors, chosen.masks), inversion)


def for_inputs(training: TranslationTraining, chosen: TrainTranslationParams) -> TrainTranslationParams:
    """Return the settings of an encoder that takes as many channels as the inputs of ``training`` have."""
    return chosen.model_copy(update={"network": chosen.network | {"input_channels": training.transform.channels}})


def train_task(
    task: TranslationTask,
    chosen: TrainTranslationParams,
    params: Params,
    portraits: PortraitSet,
    held_out: PortraitSet,
    state_path: Path,
    report: Report,
) -> tuple[Encoder, dict[str, float]]:
    """Train a task's encoder, or go on where it was stopped; return it with its held-out scores."""
    networks = LossNetworks.load(params.models.model_copy(update={"generator": decoder_path(params, task)}))
    training = task_training(task, chosen, params)
    encoder = train_encoder(
        ARCHITECTURE,
        for_inputs(training, chosen),
        networks,
        portraits,
        held_out,
        state_path,
        report,
        task=training,
        start=training.teacher if chosen.start else None,
    )
    return encoder, evaluate(encoder, networks, held_out, task=training)


def make_translator(
    name: str, chosen: TrainTranslationParams, params: Params, folder: Path, report: Report
) -> dict[str, float]:
    """Train the encoder of a task, or go on in ``folder``; store it, and return its held-out scores."""
    task = TASKS.get(name)
    sets = load_portraits("train"), load_portraits("held_out")
    encoder, scores = train_task(task, chosen, params, *sets, folder / "state.pt", report)
    stage = f"train-translation@{name}"
    store_encoder(encoder, translator_path(params, name), decoder_path(params, task), chosen, scores, stage)
    return scores


def _mirror_half(images: Tensor, stream: torch.Generator) -> Tensor:
    mirrored = torch.rand(len(images), 1, 1, 1, generator=stream) < 0.5
    return torch.where(mirrored, images.flip(3), images)
