"""The tasks of pSp as a table of settings: what the encoder sees, what it is judged by, and who draws.

The weights are the published ones (Richardson et al. 2021, appendix A, and the code's own configuration); those that
the toy encoders are trained with are in ``train_translation`` of ``params.yaml``. The published code has no inpainting:
the paper shows it, and its weights here are those of super-resolution.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gan_core.params import Params, Term
from gan_core.registry import Registry

Weights = Mapping[Term, float]
INVERSION: Weights = {"l2": 1.0, "perceptual": 0.8, "identity": 0.1}
WITHOUT_IDENTITY: Weights = {"l2": 1.0, "perceptual": 0.8, "w_norm": 0.005}
WITH_IDENTITY: Weights = {**WITHOUT_IDENTITY, "identity": 0.1}


@dataclass(frozen=True)
class TranslationTask:
    """One row of the table.

    ``sees`` is a name of ``gan_core.translation.inputs``. With ``apart`` source and target are mirrored independently
    of each other, so that no side of the face is told by the target. ``decoder`` names the generator in ``models``.
    """

    name: str
    sees: str
    losses: Weights
    apart: bool = False
    decoder: Literal["generator", "second_generator"] = "generator"

    def __str__(self) -> str:
        return f"Reads {self.sees.replace('-', ' ')}, drawn by models.{self.decoder}."


FRONTALISATION: Weights = {
    "l2": 0.001,
    "perceptual": 0.08,
    "l2_crop": 0.01,
    "perceptual_crop": 0.8,
    "identity": 1.0,
    "w_norm": 0.005,
}
TASKS: Registry[TranslationTask] = Registry("translation task")
"""The tasks by name; another package adds its own by the entry point ``edit_dataset.translation_task``."""
for _task in (
    TranslationTask("inversion", "picture", INVERSION),
    TranslationTask("frontalisation", "picture", FRONTALISATION, apart=True),
    TranslationTask("sketch", "sketch", WITHOUT_IDENTITY),
    TranslationTask("segmentation", "labels", WITHOUT_IDENTITY),
    TranslationTask("super-resolution", "low-resolution", WITH_IDENTITY),
    TranslationTask("inpainting", "masked", WITH_IDENTITY),
    TranslationTask("toonify", "picture", INVERSION, decoder="second_generator"),
):
    TASKS.register(_task.name)(_task)


def decoder_path(params: Params, task: TranslationTask) -> str:
    """Where the generator lies that draws for a task."""
    return str(getattr(params.models, task.decoder))


def translator_path(params: Params, task: str) -> Path:
    """Where a task's encoder lies: beside the encoder of inversion, which is the task ``inversion`` itself."""
    path = Path(params.models.encoder)
    return path if task == "inversion" else path.with_name(f"translate-{task}.safetensors")
