"""Render factors to aligned portraits with segmentation, sketch and landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import hair as surroundings
from . import head
from .anatomy import Anatomy
from .canvas import SEGMENTATION_LABELS, Canvas
from .factors import columns
from .geometry import Rays

SUPERSAMPLING = 2
CHUNK = 4


@dataclass(frozen=True)
class Portraits:
    """A batch of aligned portraits and their exact ground truth.

    ``image`` ``[B, 3, S, S]`` float32 sRGB in [-1, 1]; ``segmentation`` ``[B, S, S]`` uint8, ids of
    ``SEGMENTATION_LABELS``; ``sketch`` ``[B, 1, S, S]`` float32, lines 0 on paper 1; ``landmarks``
    ``[B, 5, 2]`` float32 (x, y) in pixels, pixel centres at half-integers, ordered as ``LANDMARK_NAMES``.
    """

    image: Tensor
    segmentation: Tensor
    sketch: Tensor
    landmarks: Tensor


def paint_scene(anatomy: Anatomy, x: Tensor, y: Tensor, pixel: Tensor) -> Canvas:
    """Paint the scene at points (x, y) ``[B, H, W]`` that lie ``pixel`` ``[B, 1, 1]`` apart."""
    rays = Rays.cast(x, y, pixel, anatomy.rotation)
    canvas = Canvas(surroundings.backdrop(rays, anatomy))
    paint_portrait(canvas, rays, anatomy, head.Light.from_anatomy(anatomy))
    return canvas


def paint_portrait(canvas: Canvas, rays: Rays, anatomy: Anatomy, light: head.Light) -> None:
    """Paint body and head over a backdrop, back to front."""
    shell, skin = surroundings.hair_shell(rays, anatomy), head.skin_surface(rays, anatomy)
    surroundings.paint_body(canvas, rays, anatomy, light)
    surroundings.paint_back_hair(canvas, rays, anatomy, light, shell)
    surroundings.paint_neck(canvas, rays, anatomy, light)
    head.paint_skin(canvas, rays, anatomy, light, skin)
    head.paint_ears(canvas, rays, anatomy, light, skin)
    head.paint_lines(canvas, anatomy, skin)
    head.paint_eyes(canvas, rays, anatomy, skin)
    head.paint_mouth(canvas, rays, anatomy, skin)
    head.paint_brows(canvas, rays, anatomy, skin)
    surroundings.paint_temples(canvas, rays, anatomy, skin)
    surroundings.paint_front_hair(canvas, rays, anatomy, light, shell)
    surroundings.paint_glasses(canvas, rays, anatomy, light)


def crop_frame(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half side vector, each ``[B, 2]``, of the FFHQ alignment square.

    The FFHQ recipe (Karras et al. 2019), from ``landmarks`` ``[B, 5, 2]``; the crop's x axis is the half side
    vector (a, b), its y axis (-b, a).
    """
    flip, sign = [1, 0], landmarks.new_tensor([-1.0, 1.0])
    eyes, mouth = landmarks[:, :2].mean(1), landmarks[:, 3:].mean(1)
    eye_to_eye, eye_to_mouth = landmarks[:, 1] - landmarks[:, 0], mouth - eyes
    axis = eye_to_eye - eye_to_mouth[:, flip] * sign
    side = torch.maximum(2.0 * eye_to_eye.norm(dim=1), 1.8 * eye_to_mouth.norm(dim=1))
    return eyes + 0.1 * eye_to_mouth, axis / axis.norm(dim=1, keepdim=True) * side[:, None]


def pixel_grid(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Supersampled pixel positions (x, y) ``[sH, sW]`` in pixels, for area downsampling."""
    rows, across = ((torch.arange(n * SUPERSAMPLING) + 0.5) / SUPERSAMPLING for n in (height, width))
    y, x = torch.meshgrid(rows.to(like), across.to(like), indexing="ij")
    return x, y


def area_downsample(colour: Tensor) -> Tensor:
    """Average supersampled colour ``[B, 3, sH, sW]`` in [0, 1] to ``[B, 3, H, W]`` in [-1, 1]."""
    return F.avg_pool2d(colour.clamp(0, 1), SUPERSAMPLING) * 2 - 1


def downsample_labels(label: Tensor) -> Tensor:
    """The most frequent label ``[B, H, W]`` of each supersampled block."""
    votes = torch.stack([(label == i).float() for i in range(len(SEGMENTATION_LABELS))], dim=1)
    return F.avg_pool2d(votes, SUPERSAMPLING).argmax(1).to(torch.uint8)


def outline(label: Tensor) -> Tensor:
    """Line drawing ``[B, 1, H, W]`` of the borders between supersampled labels: lines 0 on paper 1."""
    edge = torch.zeros_like(label, dtype=torch.float32)
    edge[:, 1:] = (label[:, 1:] != label[:, :-1]).float()
    edge[:, :, 1:] = torch.maximum(edge[:, :, 1:], (label[:, :, 1:] != label[:, :, :-1]).float())
    return 1 - (F.avg_pool2d(edge[:, None], SUPERSAMPLING) * 2).clamp(0, 1)


def _render_chunk(factors: Tensor, size: int) -> Portraits:
    anatomy = Anatomy.from_factors(columns(factors))
    landmarks = anatomy.landmarks()
    centre, axis = crop_frame(landmarks)
    x, y = (coordinate * (2 / size) - 1 for coordinate in pixel_grid(size, size, factors))
    (a, b), (cx, cy) = axis[:, :, None, None].unbind(1), centre[:, :, None, None].unbind(1)
    half = axis.norm(dim=1)[:, None, None]
    canvas = paint_scene(anatomy, cx + a * x - b * y, cy + b * x + a * y, 2 * half / (size * SUPERSAMPLING))
    offset = landmarks - centre[:, None]
    down = torch.stack([-axis[:, 1], axis[:, 0]], dim=1)
    inside = torch.stack([(offset * v[:, None]).sum(-1) for v in (axis, down)], dim=-1) / half.square()
    return Portraits(
        image=area_downsample(canvas.colour),
        segmentation=downsample_labels(canvas.label),
        sketch=outline(canvas.label),
        landmarks=(inside + 1) * (size / 2),
    )


@torch.no_grad()
def render(factors: Tensor, size: int = 64) -> Portraits:
    """Draw aligned portraits, framed by the FFHQ crop of their own landmarks, from factors ``[B, F]``.

    Rows do not depend on each other. Raises ``ValueError`` if the number of columns is not ``len(FACTORS)``.
    """
    parts = [_render_chunk(chunk, size) for chunk in factors.float().split(CHUNK)]
    fields = ("image", "segmentation", "sketch", "landmarks")
    return Portraits(**{name: torch.cat([getattr(part, name) for part in parts]) for name in fields})
