"""Who is in a photograph: ArcFace IR-SE-50 and CurricularFace IR-101, with their published state-dict names.

Both take faces of 112 x 112. From an FFHQ-aligned image they cut the square that the pSp identity loss cuts. The metric
script of pSp lays five landmarks, detected in each picture, on reference points instead: CurricularFace's metric here
does so with the landmarks of the row's alignment, for all pictures of the row.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.encoders.backbone import IR_SE_50, Units, body, stem
from gan_core.geometry import similarity
from gan_core.judges.networks import NETWORKS, resize

FACE_SIZE = 112
ALIGNED_SIZE = 256
ROWS, COLUMNS = slice(35, 223), slice(32, 220)


def face_crop(images: Tensor) -> Tensor:
    """FFHQ-aligned images ``[B, 3, S, S]`` -> ``[B, 3, 112, 112]``: rows 35-222, columns 32-219 of 256, pooled."""
    return F.adaptive_avg_pool2d(resize(images, ALIGNED_SIZE)[:, :, ROWS, COLUMNS], FACE_SIZE)


def warp_faces(images: Tensor, points: Sequence[np.ndarray | None]) -> Tensor:
    """Images ``[B, 3, S, S]`` with landmarks ``[5, 2]`` each -> ``[B, 3, 112, 112]``, laid on the reference points.

    Bilinear, after reducing to about the face's size; a row without landmarks is cut as ``face_crop`` does.
    """
    faces = [face_crop(images[i : i + 1]) if p is None else _warp(images[i : i + 1], p) for i, p in enumerate(points)]
    return torch.cat(faces)


def _warp(image: Tensor, points: np.ndarray) -> Tensor:
    matrix = similarity(points, reflection=False)
    reduced = max(round(image.shape[-1] * min(float(np.hypot(*matrix[:, 0])), 1.0)), 1)
    factor = reduced / image.shape[-1]
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    rows, columns = np.mgrid[:FACE_SIZE, :FACE_SIZE]
    places = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ inverse.T
    grid = torch.from_numpy(((places + 0.5) * factor / reduced * 2 - 1)[None]).to(image)
    return F.grid_sample(resize(image, reduced), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class FaceEmbedder(nn.Module):
    """FFHQ-aligned images ``[B, 3, S, S]`` in [-1, 1] -> unit vectors ``[B, 512]``.

    ``by_landmarks``: its metric lays five landmarks on the reference points, where the landmarks are known.
    """

    by_landmarks: ClassVar[bool] = False
    units: ClassVar[Units]
    gated: ClassVar[bool]
    affine: ClassVar[bool]

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {} if width == 64 else {"width": width}
        side = FACE_SIZE // 16
        self.input_layer = stem(3, width)
        self.body = body(self.units, width, self.gated)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(8 * width),
            nn.Identity(),  # dropout, which is off when it measures; kept so that the names are the published ones
            nn.Flatten(),
            nn.Linear(8 * width * side * side, 512),
            nn.BatchNorm1d(512, affine=self.affine),
        )

    def embed(self, faces: Tensor) -> Tensor:
        """Faces ``[B, 3, 112, 112]`` -> unit vectors ``[B, 512]``."""
        return F.normalize(self.output_layer(self.body(self.input_layer(faces))).float(), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(face_crop(images))


@NETWORKS.register("arcface-ir-se50")
class ArcFace(FaceEmbedder):
    """ArcFace (Deng et al. 2019) over IR-SE-50, the identity loss of pSp, e4e and most inversion papers."""

    units = IR_SE_50
    gated = True
    affine = True


@NETWORKS.register("curricularface-ir101")
class CurricularFace(FaceEmbedder):
    """CurricularFace (Huang et al. 2020) over IR-101, the identity metric of pSp."""

    units = (3, 13, 30, 3)
    gated = False
    affine = False
    by_landmarks = True
