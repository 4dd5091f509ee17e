"""MTCNN, a cascade of three networks that finds faces and five points of each (Zhang et al. 2016).

The layers have the names of ``facenet-pytorch``, whose weight files they read, and the steps between the networks give
its boxes and points: coordinates start at 1, as in the original, and boxes are cut to whole pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gan_core.batching import chunk_size, in_chunks_each
from gan_core.geometry import Points

LOOK_AT = 640
"""Longest side in pixels of what the networks should be shown, as for dlib: it bounds the time per image."""
SMALLEST, FACTOR = 20, 0.709
"""The shortest side of a face that is found, in pixels, and the step of the pyramid, as ``facenet-pytorch`` has."""
THRESHOLDS = (0.6, 0.7, 0.7)
"""What a box must score in each network, as ``facenet-pytorch`` has it."""
STRIDE, CELL = 2, 12
"""The first network looks at squares of 12 px, 2 px apart."""


class Faces(NamedTuple):
    """Faces of an image, best first: ``boxes [N, 4]`` (left, top, right, bottom), ``scores [N]``, ``points [N, 5, 2]``.

    The points are eyes, nose and mouth corners, the image's left ones first, in pixels.
    """

    boxes: Points
    scores: Points
    points: Points


class ProposalNet(nn.Module):
    """Images ``[B, 3, H, W]`` -> corrections ``[B, 4, h, w]`` of boxes and scores ``[B, h, w]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(images)), 2, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_2(x), self.conv4_1(x).softmax(1)[:, 1]


class RefinementNet(nn.Module):
    """Crops ``[B, 3, 24, 24]`` -> corrections ``[B, 4]`` and scores ``[B]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(crops)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = self.prelu4(self.dense4(columns_first(self.prelu3(self.conv3(x)))))
        return self.dense5_2(x), self.dense5_1(x).softmax(1)[:, 1]


class OutputNet(nn.Module):
    """Crops ``[B, 3, 48, 48]`` -> corrections ``[B, 4]``, scores ``[B]`` and points ``[B, 10]`` (five x, five y)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(crops)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu5(self.dense5(columns_first(self.prelu4(self.conv4(x)))))
        return self.dense6_2(x), self.dense6_1(x).softmax(1)[:, 1], self.dense6_3(x)


class Cascade(nn.Module):
    """The three networks, and the steps between them.

    Images of one size are shown to the first network together, and what it proposes in all images to the other two.
    All see chunks of one size, so that an image has the same faces, bit for bit, in any batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pnet, self.rnet, self.onet = ProposalNet(), RefinementNet(), OutputNet()

    @torch.no_grad()
    def forward(self, images: Sequence[Tensor] | Tensor) -> list[Faces]:
        """Images ``[3, H, W]`` in [0, 255], of any sizes -> the faces of each."""
        if not len(images):
            return []
        places: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, image in enumerate(images):
            places[tuple(image.shape)].append(place)
        found = [self._propose(torch.stack([images[i] for i in own]), torch.tensor(own)) for own in places.values()]
        boxes, owners = (torch.cat(parts) for parts in zip(*found, strict=True))
        return self._output(images, *self._refine(images, boxes, owners))

    def _propose(self, images: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Squares ``[N, 4]`` in images of one size, on the CPU, and in which of ``places`` each lies."""
        found = [self._look(images, scale) for scale in pyramid(*images.shape[2:])]
        boxes = torch.cat([boxes for boxes, _ in found] or [torch.zeros(0, 9)])
        owners = torch.cat([owners for _, owners in found] or [torch.zeros(0, dtype=torch.long)])
        keep = apart(boxes, boxes[:, 4], owners, 0.7)
        boxes, owners = boxes[keep], owners[keep]
        sizes = (boxes[:, 2:4] - boxes[:, 0:2]).repeat(1, 2)
        return squared(boxes[:, :4] + boxes[:, 5:9] * sizes), places[owners]

    def _look(self, images: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Boxes ``[N, 9]`` (corners, score, corrections) at one scale, on the CPU, and the images that they are of."""
        height, width = images.shape[2:]
        small = F.interpolate(images, (int(height * scale + 1), int(width * scale + 1)), mode="area")
        looked = in_chunks_each(self.pnet, normalised(small), chunk_size(LOOK_AT))
        corrections, scores = (part.cpu() for part in looked)
        hits = scores >= THRESHOLDS[0]
        owners, rows, columns = hits.nonzero(as_tuple=True)
        corners = STRIDE * torch.stack([columns, rows], 1).float() + 1
        boxes = torch.cat([(corners / scale).floor(), ((corners + CELL - 1) / scale).floor()], 1)
        boxes = torch.cat([boxes, scores[hits][:, None], corrections.permute(0, 2, 3, 1)[hits]], 1)
        keep = apart(boxes, boxes[:, 4], owners, 0.5)
        return boxes[keep], owners[keep]

    def _refine(self, images: Sequence[Tensor] | Tensor, boxes: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        boxes, owners, (corrections, scores) = _judge(self.rnet, images, boxes, owners, 24)
        passed = scores > THRESHOLDS[1]
        boxes, owners, corrections, scores = (part[passed] for part in (boxes, owners, corrections, scores))
        keep = apart(boxes, scores, owners, 0.7)
        return squared(corrected(boxes[keep], corrections[keep])), owners[keep]

    def _output(self, images: Sequence[Tensor] | Tensor, boxes: Tensor, owners: Tensor) -> list[Faces]:
        boxes, owners, (corrections, scores, places) = _judge(self.onet, images, boxes, owners, 48)
        passed = scores > THRESHOLDS[2]
        boxes, owners, corrections, scores = (part[passed] for part in (boxes, owners, corrections, scores))
        sizes = boxes[:, 2:] - boxes[:, :2] + 1
        points = places[passed].unflatten(1, (2, 5)).mT * sizes[:, None] + boxes[:, None, :2] - 1
        boxes = corrected(boxes, corrections)
        keep = apart(boxes, scores, owners, 0.7, of_smaller=True)
        kept, of = [part[keep].double().numpy() for part in (boxes, scores, points)], owners[keep].numpy()
        return [Faces(*(part[of == image] for part in kept)) for image in range(len(images))]


def pyramid(height: int, width: int, smallest: int = SMALLEST) -> list[float]:
    """Return the scales at which the first network looks: the smallest face, then larger ones up to the image."""
    scale, scales = CELL / smallest, []
    shorter = min(height, width) * scale
    while shorter >= CELL:
        scales.append(scale)
        scale, shorter = scale * FACTOR, shorter * FACTOR
    return scales


def normalised(images: Tensor) -> Tensor:
    """Bring images ``[B, 3, H, W]`` from [0, 255] to about [-1, 1], as the networks take them."""
    return (images - 127.5) * 0.0078125


def columns_first(maps: Tensor) -> Tensor:
    """Flatten maps ``[B, C, H, W]`` as the original does, columns before rows before channels: ``[B, W * H * C]``."""
    return maps.permute(0, 3, 2, 1).flatten(1)


def corrected(boxes: Tensor, corrections: Tensor) -> Tensor:
    """Move the edges of boxes ``[N, 4]`` by shares of their sizes ``[N, 4]``."""
    return boxes + corrections * (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2)


def squared(boxes: Tensor) -> Tensor:
    """Widen boxes ``[N, 4]`` to squares about the same centres."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    side = sizes.amax(1, keepdim=True)
    corner = boxes[:, :2] + sizes * 0.5 - side * 0.5
    return torch.cat([corner, corner + side], 1)


def apart(boxes: Tensor, scores: Tensor, owners: Tensor, most: float, of_smaller: bool = False) -> NDArray[np.int64]:
    """Return the indices of boxes ``[N, 4+]`` without those that overlap a better one of the same image.

    They are ordered by image, then best first. ``most`` is the overlap that is allowed, a share of the union or, with
    ``of_smaller``, of the smaller box.
    """
    corners, own = boxes[:, :4].numpy(), owners.numpy()
    order = np.argsort(-scores.numpy(), kind="stable")
    keep = [_apart(corners, order[own[order] == image], most, of_smaller) for image in np.unique(own)]
    return np.array([index for of_image in keep for index in of_image], dtype=np.int64)


def _apart(corners: NDArray[np.float32], order: NDArray[np.int64], most: float, of_smaller: bool) -> list[int]:
    """Do the same for the boxes of one image, given best first."""
    unit = np.float32(1 if of_smaller else 0)  # the original counts pixels only in its last step
    areas = np.prod(corners[:, 2:] - corners[:, :2] + unit, axis=1)
    keep: list[int] = []
    while len(order):
        best, order = order[0], order[1:]
        keep.append(int(best))
        sides = np.minimum(corners[best, 2:], corners[order, 2:]) - np.maximum(corners[best, :2], corners[order, :2])
        shared = np.prod(np.maximum(sides + unit, 0), axis=1)
        whole = np.minimum(areas[best], areas[order]) if of_smaller else areas[best] + areas[order] - shared
        order = order[shared <= most * whole]
    return keep


def _judge(
    network: Callable[[Tensor], tuple[Tensor, ...]],
    images: Sequence[Tensor] | Tensor,
    boxes: Tensor,
    owners: Tensor,
    side: int,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Crop what boxes ``[N, 4]`` show, look at it, and return the boxes that lie in their images, with the outputs."""
    limits = torch.tensor([[image.shape[2], image.shape[1]] for image in images])[owners]
    edges = boxes.trunc().long()
    inside = torch.cat([edges[:, :2].clamp_min(1) - 1, torch.minimum(edges[:, 2:], limits)], 1)
    real = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
    boxes, owners, inside = boxes[real], owners[real], inside[real]
    crops = [
        F.interpolate(images[i][None, :, top:bottom, left:right], (side, side), mode="area")
        for i, (left, top, right, bottom) in zip(owners.tolist(), inside.tolist(), strict=True)
    ]
    shown = torch.cat(crops) if crops else images[0].new_zeros(0, 3, side, side)
    outputs = in_chunks_each(network, normalised(shown)) if crops else network(shown)
    return boxes, owners, [part.cpu() for part in outputs]
