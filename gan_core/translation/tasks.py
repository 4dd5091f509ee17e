"""The tasks of pSp as a table: the encoder's input, the loss weights, and the generator that draws the output.

The weights are the published ones (Richardson et al. 2021, appendix A, and the configuration in the code). Those of the
toy encoders are in the section ``train_translation`` of ``toy.yaml``. The published code has no inpainting, which the
paper shows; its weights here are those of super-resolution.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gan_core.errors import CheckpointError
from gan_core.params import Params
from gan_core.registry import Registry
from gan_core.storage.urls import exists

Term = Literal[
    "l2",
    "perceptual",
    "l2_crop",
    "perceptual_crop",
    "identity",
    "w_norm",
    "latent",
    "delta",
    "adversarial",
    "alignment",
]
"""A term of an encoder's loss; what each is: ``gan_core.toy.training.encoder_losses``."""
Weights = Mapping[Term, float]
INVERSION: Weights = {"l2": 1.0, "perceptual": 0.8, "identity": 0.1}
WITHOUT_IDENTITY: Weights = {"l2": 1.0, "perceptual": 0.8, "w_norm": 0.005}
WITH_IDENTITY: Weights = {**WITHOUT_IDENTITY, "identity": 0.1}


@dataclass(frozen=True)
class TranslationTask:
    """The settings of a task.

    ``input_kind`` is a name of ``gan_core.translation.inputs``. With ``mirror_independently`` source and target are
    mirrored independently, so that the target doesn't tell the side to which a face is turned. ``decoder`` is the name
    of the generator in ``models``.
    """

    name: str
    input_kind: str
    losses: Weights
    mirror_independently: bool = False
    decoder: Literal["generator", "second_generator"] = "generator"

    def __str__(self) -> str:
        return f"Reads {self.input_kind.replace('-', ' ')}, drawn by models.{self.decoder}."


FRONTALISATION: Weights = {
    "l2": 0.001,
    "perceptual": 0.08,
    "l2_crop": 0.01,
    "perceptual_crop": 0.8,
    "identity": 1.0,
    "w_norm": 0.005,
}
INVERTS = "inversion"
"""The task whose encoder is ``models.encoder``."""
PSP_TASKS = (
    TranslationTask(INVERTS, "picture", INVERSION),
    TranslationTask("frontalisation", "picture", FRONTALISATION, mirror_independently=True),
    TranslationTask("sketch", "sketch", WITHOUT_IDENTITY),
    TranslationTask("segmentation", "labels", WITHOUT_IDENTITY),
    TranslationTask("super-resolution", "low-resolution", WITH_IDENTITY),
    TranslationTask("inpainting", "masked", WITH_IDENTITY),
    TranslationTask("toonify", "picture", INVERSION, decoder="second_generator"),
)
"""The tasks of this project, which it can train on toy portraits."""
TASKS: Registry[TranslationTask] = Registry("translation task", items={task.name: task for task in PSP_TASKS})
"""The tasks by name. Other packages add theirs through the entry-point group ``edit_dataset.translation_task``."""


def decoder_path(params: Params, task: TranslationTask) -> str:
    """Return the path of the generator that draws the outputs of a task."""
    return str(getattr(params.models, task.decoder))


def translator_path(params: Params, task: str) -> str:
    """Return the path of a task's encoder: ``models.encoder`` for inversion, and beside it for other tasks."""
    return params.models.encoder if task == INVERTS else params.models.beside_encoder(f"translate-{task}")


def find_translator(params: Params, task: str) -> str:
    """Return ``translate.encoder``, or the path of the task's encoder.

    Raises ``ParamsError`` for an unknown task, and ``CheckpointError`` that says how to train an encoder that is not
    there yet.
    """
    TASKS.get(task)
    path = translator_path(params, task)
    if params.translate.encoder or task == INVERTS or exists(path):
        return params.translate.encoder or path
    train = f"`python -m gan_core.toy.training.portraits && python -m tasks.train train-translation@{task}`"
    own = task in {each.name for each in PSP_TASKS}
    what_to_do = f"train it, 5 to 7 minutes of a core ({train}), or " if own else ""
    raise CheckpointError(
        f"no encoder of the task {task!r} at {path}: {what_to_do}name one in translate.encoder; "
        f"translate.task={INVERTS} takes that of models.encoder"
    )
