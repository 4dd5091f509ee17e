"""Points and frames of images, and the similarity transform from five landmarks to face recognition's template."""

from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Points = NDArray[np.float64]

REFERENCE: Points = np.array(
    [
        [38.29459953, 51.69630051],
        [73.53179932, 51.50139999],
        [56.02519989, 71.73660278],
        [41.54930115, 92.3655014],
        [70.72990036, 92.20410156],
    ]
)
"""Eyes, nose tip and mouth corners in the crop: the ArcFace template, which is the 96 x 112 one shifted 8 px right."""


@dataclass(frozen=True)
class Frame:
    """The part of a generator's square that is the picture: all of it, or its middle rows or columns.

    Only the proportion of ``height`` to ``width`` counts; the longer one spans the square. 192 x 256 (cars) is the rows
    64 to 447 of a square of 512 px, and 32 to 223 of one of 256 px, as e4e crops them.
    """

    height: int = 1
    width: int = 1

    @property
    def is_square(self) -> bool:
        """Whether the picture is the whole square."""
        return self.height == self.width

    def shape(self, side: int) -> tuple[int, int]:
        """Return height and width in pixels of the picture in a square of ``side`` pixels."""
        longer = max(self.height, self.width)
        return side * self.height // longer, side * self.width // longer

    def crop(self, squares: Tensor) -> Tensor:
        """Cut the picture out of squares ``[..., S, S]``; images of another shape are returned as they are."""
        side = squares.shape[-1]
        if self.is_square or squares.shape[-2] != side:
            return squares
        height, width = self.shape(side)
        top, left = (side - height) // 2, (side - width) // 2
        return squares[..., top : top + height, left : left + width]


SQUARE = Frame()


def average_down(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """Average images ``[B, C, H, W]`` down to ``shape`` (height and width), as pSp does with what it draws."""
    return images if images.shape[2:] == shape else F.adaptive_avg_pool2d(images, shape)


def framed_like(squares: Tensor, targets: Tensor) -> Tensor:
    """Return the part of squares ``[B, C, S, S]`` that ``targets [B, C, H, W]`` show, averaged down to their size."""
    height, width = targets.shape[2:]
    return average_down(Frame(height, width).crop(squares), (height, width))


def similarity(points: ArrayLike, reference: ArrayLike = REFERENCE, reflection: bool = True) -> Points:
    """Return the matrix ``[2, 3]`` of the similarity that maps ``points [N, 2]`` closest to ``reference [N, 2]``.

    Scale, rotation and shift are fitted by least squares from the reference to the image and then inverted, as in the
    published alignment code. With ``reflection`` a mirrored fit is used where its error is smaller. Raises
    ``ValueError`` if all points coincide.
    """
    source, target = np.asarray(points, np.float64), np.asarray(reference, np.float64)
    best = _fit(source, target)
    if reflection:
        mirrored = np.array([[-1], [1]]) * _fit(source, target * (-1, 1))
        best = min(best, mirrored, key=lambda matrix: _error(matrix, source, target))
    return best


def _fit(source: Points, target: Points) -> Points:
    """Fit u = a x + b y + c, v = a y - b x + d from ``target`` (x, y) to ``source`` (u, v) and invert it."""
    zeros, ones = np.zeros(len(source)), np.ones(len(source))
    x, y = target.T
    rows = np.concatenate([np.column_stack([x, y, ones, zeros]), np.column_stack([y, -x, zeros, ones])])
    (a, b, c, d), _, rank, _ = np.linalg.lstsq(rows, source.T.flatten(), rcond=None)
    if rank < 4 or a * a + b * b < 1e-12:  # a scale below 1e-6: the points coincide
        raise ValueError("all landmarks are in one place, so they define no similarity")
    return np.linalg.inv(np.array([[a, b, c], [-b, a, d], [0, 0, 1]]))[:2]


def _error(matrix: Points, source: Points, target: Points) -> float:
    return float(np.square(source @ matrix[:, :2].T + matrix[:, 2] - target).sum())
