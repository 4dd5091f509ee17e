"""Five points of photographs by MTCNN, with the weights that ``facenet-pytorch`` carries (MIT).

``pip install 'edit-dataset[photos]'`` installs them; the package's own code is not used. The networks were trained on
WIDER FACE and CelebA, whose pictures are for research.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from gan_core.align.landmarks import LANDMARK_SOURCES, LandmarkSource
from gan_core.align.mtcnn import LOOK_AT, Cascade, Faces
from gan_core.checkpoints.files import file_sha256
from gan_core.checkpoints.packaged import Packaged
from gan_core.device import place
from gan_core.geometry import Points
from gan_core.loading import load_state
from gan_core.rows import Rejected, Row

SHA256 = {
    "pnet": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}
FILES = {
    name: Packaged("facenet_pytorch", f"data/{name}.pt", "facenet-pytorch==2.5.3", sha256)
    for name, sha256 in SHA256.items()
}


@LANDMARK_SOURCES.register("mtcnn")
class MtcnnLandmarks(LandmarkSource):
    """Eye centres, nose tip and mouth corners of the largest face (of equal ones the leftmost)."""

    def __init__(self, checkpoint: str = "", faces: str = "largest") -> None:
        super().__init__(checkpoint, faces)
        self._sha256 = {name: file_sha256(file.path()) for name, file in FILES.items()}

    @cached_property
    def cascade(self) -> Cascade:
        """The networks, read at first use."""
        return load_cascade()

    def landmarks(self, image: Image.Image, row: Row) -> Points | Rejected:
        """Return the points ``[5, 2]`` in pixels.

        Rejected are ``no_face`` and, if ``faces`` is ``only``, ``many_faces``.
        """
        return self.locate([image], [row])[0]

    def locate(self, images: Sequence[Image.Image], rows: Sequence[Row]) -> list[Points | Rejected]:
        """Do the same for several images, which the networks see together; each has the same points as alone."""
        chosen = [self.choose(found) for found in find_faces(self.cascade, images)]
        return [one if isinstance(one, Rejected) else one[1] for one in chosen]

    def choose(self, found: Faces) -> tuple[Points, Points] | Rejected:
        """Return the box ``[4]`` and the points ``[5, 2]`` of the face that counts, or why there is none."""
        if not len(found.boxes):
            return Rejected("no_face", "MTCNN finds no face")
        if self.faces == "only" and len(found.boxes) > 1:
            return Rejected("many_faces", f"MTCNN finds {len(found.boxes)} faces, and align.faces is 'only'")
        index = largest(found.boxes)
        return found.boxes[index], found.points[index]

    def identity(self) -> dict[str, object]:
        """Return the hashes of the three networks and the size of the copy."""
        return {"landmarks_sha256": self._sha256, "detector": f"mtcnn, {LOOK_AT} px"}


def find_faces(network: Cascade, images: Sequence[Image.Image], look_at: int = LOOK_AT) -> list[Faces]:
    """Return the faces of each RGB image, in pixels of it; the networks see copies of at most ``look_at`` pixels."""
    copies = [_copy(image, look_at, next(network.parameters())) for image in images]
    return [_in_pixels(*found) for found in zip(network(copies), copies, images, strict=True)]


def _copy(image: Image.Image, look_at: int, like: torch.Tensor) -> torch.Tensor:
    """Reduce an image channel by channel: as floating-point numbers a large one takes four times its memory."""
    channels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[:, None, None]
    scale = min(1.0, look_at / max(image.size))
    size = tuple(max(round(length * scale), 1) for length in channels.shape[3:])
    return torch.cat([_reduced(channel.to(like), size) for channel in channels])


def _reduced(channel: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    same = channel.shape[2:] == size
    return (channel if same else F.interpolate(channel, size, mode="bilinear", antialias=True))[0]


def _in_pixels(found: Faces, copy: torch.Tensor, image: Image.Image) -> Faces:
    unit = np.array([image.width / copy.shape[2], image.height / copy.shape[1]])
    return Faces((found.boxes + 0.5) * np.tile(unit, 2) - 0.5, found.scores, (found.points + 0.5) * unit - 0.5)


def largest(boxes: Points) -> int:
    """Return the index of the largest box ``[N, 4]``; of several equally large ones the leftmost, then the topmost."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return min(range(len(boxes)), key=lambda i: (-areas[i], boxes[i, 0], boxes[i, 1]))


def load_cascade() -> Cascade:
    """Read the networks of the installed ``facenet-pytorch``; raises ``CheckpointError`` if they are missing."""
    cascade = Cascade()
    networks: dict[str, nn.Module] = {"pnet": cascade.pnet, "rnet": cascade.rnet, "onet": cascade.onet}
    for name, network in networks.items():
        path = FILES[name].path()
        load_state(network, torch.load(path, map_location="cpu", weights_only=True), path)
    return place(cascade.eval().requires_grad_(False))
