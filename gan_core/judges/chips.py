"""Faces as dlib's networks see them: a square around dlib's mean face, cut from an FFHQ-aligned picture.

In such a picture the face lies where the recipe puts it, so the square is the same in all of them. Source of the mean
face: ``mean_face_shape`` in dlib's ``image_transforms/interpolation.h``, in shares of the face's box.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from gan_core.geometry import Points
from gan_core.judges.networks import resize

MEAN_FACE: Points = np.array([[0.22549, 0.21599], [0.75476, 0.21599], [0.25415, 0.78023], [0.72610, 0.78023]])
"""Eye centres and mouth corners."""
EYES_TO_SIDE, DOWN_TO_SIDE, RAISED = 2.0, 1.8, 0.1
"""FFHQ's square: half its side in eye distances and in eye-to-mouth distances, and its centre below the eyes."""


def face_chips(images: Tensor, size: int, padding: float) -> Tensor:
    """FFHQ-aligned images ``[B, 3, S, S]`` -> chips ``[B, 3, size, size]`` with ``padding`` (a share) on each side."""
    left, top, share = chip_in_square(padding)
    whole = round(size / share)
    row, column = round(top * whole), round(left * whole)
    return resize(images, whole)[:, :, row : row + size, column : column + size]


@cache
def chip_in_square(padding: float) -> tuple[float, float, float]:
    """Return left edge, top edge and side of the chip in the square that FFHQ's recipe cuts, as shares of its side."""
    eyes, mouth = MEAN_FACE[:2].mean(axis=0), MEAN_FACE[2:].mean(axis=0)
    across, down = float(np.ptp(MEAN_FACE[:2, 0])), mouth - eyes
    side = 2 * max(across * EYES_TO_SIDE, float(np.hypot(*down)) * DOWN_TO_SIDE)
    left, top = ((-padding - eyes - down * RAISED) / side + 0.5).tolist()
    return left, top, (1 + 2 * padding) / side


def dlib_input(chips: Tensor) -> Tensor:
    """Chips ``[B, 3, H, W]`` in [-1, 1] -> as dlib's networks take RGB: of [0, 255], less the mean, divided by 256."""
    mean = torch.tensor((122.782, 117.001, 104.298), device=chips.device).reshape(1, 3, 1, 1)
    return (chips * 127.5 + 127.5 - mean) / 256
