"""Sources of face landmarks: a column of the dataset, a fixed square, or a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from gan_core.checkpoints.files import Loaded
from gan_core.device import fetch
from gan_core.errors import DataError
from gan_core.geometry import SQUARE, Frame, Points
from gan_core.judges.networks import load_network
from gan_core.registry import Registry
from gan_core.rows import Rejected, Row
from gan_core.storage.images import to_tensor

LETTERBOX_SIZE = 64
SECOND_LOOK = 1.3
"""Half the side of the second crop, in face widths: the closest crop that the network was trained on."""


class LandmarkSource(ABC):
    """Finds the landmarks of one face per image; built once per worker with the path of a checkpoint (may be unused).

    ``virtual`` points define a square but no face: they are not stored, and the crop is not padded. With ``whole`` they
    are not used either, because the picture is taken as it is. With several faces a detector takes the ``largest``, or
    rejects the image if ``faces`` is ``only``. ``needs`` is the column of the rows that it reads, if any. ``frame`` is
    the part of the square that is cropped. ``dataset`` is the URL of the rows' dataset, where it is known.
    """

    virtual: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    needs: ClassVar[str] = ""
    frame: Frame = SQUARE
    dataset: str = ""

    def __init__(self, checkpoint: str = "", faces: str = "largest") -> None:
        self.checkpoint = checkpoint
        self.faces = faces

    @abstractmethod
    def landmarks(self, image: Image.Image, row: Row) -> Points | Rejected:
        """Return pixel positions ``[5, 2]`` or ``[68, 2]`` in the RGB ``image``, or why there are none: ``no_face``."""

    def check_columns(self, columns: Container[str], where: str) -> None:
        """Raise ``DataError`` if ``needs`` is not among the columns of ``where``."""
        if self.needs and self.needs not in columns:
            raise DataError(
                f"align.landmarks: {where} has no column {self.needs!r}: "
                "add one (5 or 68 points), or choose 'mtcnn' (photographs), 'toy-net' or 'centre'"
            )

    def locate(self, images: Sequence[Image.Image], rows: Sequence[Row]) -> list[Points | Rejected]:
        """Do the same for several images; a source whose networks see them together overrides this.

        An image must have the same points as alone.
        """
        return [self.landmarks(image, row) for image, row in zip(images, rows, strict=True)]

    def identity(self) -> dict[str, object]:
        """Return everything besides the image and its row that determines the landmarks, JSON-able."""
        return {}


LANDMARK_SOURCES: Registry[type[LandmarkSource]] = Registry("landmark source", "gan_core.align", LandmarkSource)


@LANDMARK_SOURCES.register("columns")
class ColumnLandmarks(LandmarkSource):
    """Landmarks in the column ``landmarks`` of the dataset; null means that there is no face."""

    needs = "landmarks"

    def landmarks(self, image: Image.Image, row: Row) -> Points | Rejected:
        """Return the points ``[5, 2]`` or ``[68, 2]`` of the row; other shapes are ``degenerate_landmarks``.

        Raises ``DataError`` if there is no such column.
        """
        self.check_columns(row, self.dataset or "the row")
        if row["landmarks"] is None:
            return Rejected("no_face", "the column 'landmarks' is null")
        try:
            points = np.array(list(row["landmarks"]), dtype=np.float64)
        except (TypeError, ValueError):
            return Rejected("degenerate_landmarks", "the column 'landmarks' is not a list of (x, y)")
        if points.shape not in ((5, 2), (68, 2)):
            return Rejected("degenerate_landmarks", f"{points.shape} landmarks where 5 or 68 (x, y) are expected")
        return points


@LANDMARK_SOURCES.register("centre")
class CentreSquare(LandmarkSource):
    """For images without faces: points whose frame is the largest one that is centred in the image."""

    virtual = True

    def landmarks(self, image: Image.Image, row: Row) -> Points | Rejected:
        """Return the points ``[5, 2]`` in pixels; no image is rejected."""
        width, height = image.size
        longer = max(self.frame.height, self.frame.width)
        side = min(width * longer / self.frame.width, height * longer / self.frame.height)
        unit = side / 4  # the eye distance: half a face square is 2.0 of them
        offsets = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.5], [-0.4, 1.0], [0.4, 1.0]])
        eye_avg = np.array([(width - 1) / 2, (height - 1) / 2 - 0.1 * unit])
        return eye_avg + offsets * unit


@LANDMARK_SOURCES.register("aligned")
class AlignedPicture(CentreSquare):
    """For pictures that are framed already: each is taken whole, and resized as the published loaders do."""

    whole = True


@LANDMARK_SOURCES.register("toy-net")
class NetworkLandmarks(LandmarkSource):
    """The project's landmark network for toy portraits, which sees a letterboxed frame."""

    @cached_property
    def loaded(self) -> Loaded[nn.Module]:
        """The network and its file, read at first use."""
        return load_network(self.checkpoint, "landmarks")

    @cached_property
    def network(self) -> nn.Module:
        """The network: ``[B, 3, 64, 64]`` in [-1, 1] to presence logits ``[B]`` and points ``[B, 5, 2]``."""
        return self.loaded.model

    def landmarks(self, image: Image.Image, row: Row) -> Points | Rejected:
        """Detect the points ``[5, 2]`` in the whole image, then refine them in a crop around the face.

        A presence logit below 0 in the whole image is ``no_face``.
        """
        presence, points = self._look(image)
        if presence < 0:
            return Rejected("no_face", f"the landmark network finds no face (presence logit {presence:.2f})")
        left, top, right, bottom = window(points)
        again, nearer = self._look(image.crop((left, top, right, bottom)))
        return nearer + np.array([left, top]) if again > 0 else points

    def _look(self, image: Image.Image) -> tuple[float, Points]:
        box = Letterbox.fit(*image.size)
        with torch.inference_mode():
            presence, points = self.network(to_tensor([box.apply(image)]))
        return presence.item(), box.restore(fetch(points[0]).astype(np.float64))

    def identity(self) -> dict[str, object]:
        """Return the checkpoint's hash."""
        return {"landmarks_sha256": self.loaded.sha256}


def window(points: Points) -> tuple[int, int, int, int]:
    """Return the square around landmarks ``[5, 2]`` for the second crop: left, top, right, bottom in whole pixels."""
    middle, spread = points.mean(axis=0), float(np.ptp(points, axis=0).max())
    half = max(round(SECOND_LOOK * spread), 1)
    left, top = (round(edge) for edge in (middle - half).tolist())
    return left, top, left + 2 * half, top + 2 * half


@dataclass(frozen=True)
class Letterbox:
    """Places an image in a 64x64 frame: scaled by ``scale`` to fit, centred, with black bars of ``offset`` pixels."""

    scale: tuple[float, float]
    offset: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def fit(cls, width: int, height: int) -> Letterbox:
        """Fit an image of ``width`` x ``height`` pixels: its longer side becomes 64 pixels."""
        scale = LETTERBOX_SIZE / max(width, height)
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        offset = (LETTERBOX_SIZE - size[0]) // 2, (LETTERBOX_SIZE - size[1]) // 2
        return cls((size[0] / width, size[1] / height), offset, size)

    def apply(self, image: Image.Image) -> Image.Image:
        """Return the 64x64 frame of an RGB image."""
        frame = Image.new("RGB", (LETTERBOX_SIZE, LETTERBOX_SIZE))
        frame.paste(image.resize(self.size, Image.Resampling.BILINEAR), self.offset)
        return frame

    def restore(self, points: Points) -> Points:
        """Map positions ``[..., 2]`` in the frame, in shares from edge to edge (0 to 1), to pixels of the image."""
        return (points * LETTERBOX_SIZE - self.offset) / self.scale - 0.5
