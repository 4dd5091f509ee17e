"""A second style of the toy portraits: the same heads, flat and cel-shaded, with ink lines.

The drawing is that of ``gan_core.toy.renderer``, seen through another light and another canvas. It lives beside that
package because everything in there decides the portraits that the embedded models were trained on.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_core.toy.renderer import hair as surroundings
from gan_core.toy.renderer import head
from gan_core.toy.renderer.anatomy import Anatomy
from gan_core.toy.renderer.canvas import SEGMENTATION_LABELS, Canvas
from gan_core.toy.renderer.factors import columns
from gan_core.toy.renderer.geometry import Rays, Vector
from gan_core.toy.renderer.render import CHUNK, SUPERSAMPLING, area_downsample, crop_frame, paint_portrait, pixel_grid

LIT, SHADED = 1.06, 0.74
VIVID = 1.35
INK = (0.10, 0.07, 0.13)
UNLINED = {"teeth": "mouth", "nose": "skin"}


class CelLight(head.Light):
    """The light of the factors in two flat tones, with a hard glint."""

    def shade(self, normal: Vector) -> Tensor:
        return torch.where(super().shade(normal) > 0.70, LIT, SHADED)

    def gloss(self, normal: Vector, power: float) -> Tensor:
        return torch.where(super().gloss(normal, power) > 0.80, 0.7, 0.0)


class CelCanvas(Canvas):
    """Paints with hard edges: faint layers are left out, shadows are flat."""

    def paint(self, colour: Any, alpha: Tensor, label: str | None = None) -> None:
        super().paint(colour, (alpha > 0.5).to(alpha), label)

    def darken(self, amount: Tensor) -> None:
        super().darken(torch.where(amount > 0.17, 0.30, 0.0))


def paint_cel(anatomy: Anatomy, rays: Rays) -> CelCanvas:
    """Paint the scene flat, over a backdrop of one colour."""
    backdrop = surroundings.backdrop(rays, anatomy)
    canvas = CelCanvas(backdrop.mean((2, 3), keepdim=True).expand_as(backdrop))
    paint_portrait(canvas, rays, anatomy, CelLight.from_anatomy(anatomy))
    return canvas


def ink(canvas: Canvas) -> Tensor:
    """Colours ``[B, 3, H, W]`` made more vivid, with dark lines where labels meet (not around teeth and nose)."""
    grey = canvas.colour.mean(1, keepdim=True)
    vivid = (grey + VIVID * (canvas.colour - grey)).clamp(0, 1)
    label = canvas.label
    for inner, around in UNLINED.items():
        label = label.masked_fill(label == SEGMENTATION_LABELS.index(inner), SEGMENTATION_LABELS.index(around))
    edge = torch.zeros_like(grey)
    edge[:, 0, 1:] = (label[:, 1:] != label[:, :-1]).float()
    edge[:, 0, :, 1:] = torch.maximum(edge[:, 0, :, 1:], (label[:, :, 1:] != label[:, :, :-1]).float())
    line = F.max_pool2d(edge, 2, stride=1, padding=1)[..., :-1, :-1]
    return torch.lerp(vivid, vivid.new_tensor(INK)[:, None, None], 0.85 * line)


@torch.no_grad()
def render_cel(factors: Tensor, size: int = 64) -> Tensor:
    """Draw the portraits of factors ``[B, F]`` cel-shaded: ``[B, 3, size, size]`` sRGB in [-1, 1].

    Segmentation, landmarks and sketch are those of ``toy.render`` for the same factors.
    """
    return torch.cat([_render_chunk(chunk, size) for chunk in factors.float().split(CHUNK)])


def _render_chunk(factors: Tensor, size: int) -> Tensor:
    anatomy = Anatomy.from_factors(columns(factors))
    centre, axis = crop_frame(anatomy.landmarks())
    x, y = (coordinate * (2 / size) - 1 for coordinate in pixel_grid(size, size, factors))
    (a, b), (cx, cy) = axis[:, :, None, None].unbind(1), centre[:, :, None, None].unbind(1)
    pixel = 2 * axis.norm(dim=1)[:, None, None] / (size * SUPERSAMPLING)
    rays = Rays.cast(cx + a * x - b * y, cy + b * x + a * y, pixel, anatomy.rotation)
    return area_downsample(ink(paint_cel(anatomy, rays)))
