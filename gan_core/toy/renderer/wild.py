"""Portraits in the wild: off-centre, tilted and scaled in a larger frame, so that alignment matters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .anatomy import Anatomy
from .factors import columns
from .render import SUPERSAMPLING, area_downsample, crop_frame, paint_scene, pixel_grid


@dataclass(frozen=True)
class WildPortrait:
    """Unaligned frame: ``image`` uint8 RGB ``[H, W, 3]``, ``landmarks`` float32 ``[5, 2]`` in frame pixels.

    Landmarks are (x, y) with pixel centres at half-integers, ordered as ``LANDMARK_NAMES``.
    """

    image: np.ndarray
    landmarks: np.ndarray


@torch.no_grad()
def _render_one(factors: Tensor, seed: int) -> WildPortrait:
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    width, height = (int(n) for n in rng.integers(120, 221, size=2))
    width += int(width == height)
    angle, crop = math.radians(rng.uniform(-25, 25)), rng.uniform(60, 76)
    anatomy = Anatomy.from_factors(columns(factors))
    landmarks = anatomy.landmarks()
    middle, axis = crop_frame(landmarks)
    turn = angle - torch.atan2(axis[0, 1], axis[0, 0])
    zoom = crop / (2 * axis[0].norm())
    reach = 0.5 * crop * (abs(math.cos(angle)) + abs(math.sin(angle)))  # keeps the crop inside the frame
    at = landmarks.new_tensor([rng.uniform(reach, n - reach) for n in (width, height)])
    cos, sin = zoom * turn.cos(), zoom * turn.sin()
    frame = torch.stack([cos, -sin, sin, cos]).reshape(2, 2)
    x, y = pixel_grid(height, width, factors)
    scene = (torch.stack([x, y], dim=-1) - at) @ torch.linalg.inv(frame).T + middle[0]
    pixel = (1 / (zoom * SUPERSAMPLING)).reshape(1, 1, 1)
    colour = area_downsample(paint_scene(anatomy, scene[None, ..., 0], scene[None, ..., 1], pixel).colour)
    image = ((colour[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
    return WildPortrait(image, ((landmarks[0] - middle[0]) @ frame.T + at).float().numpy())


def render_wild(factors: Tensor, seeds: Sequence[int]) -> list[WildPortrait]:
    """Draw factors ``[B, F]`` in frames of 120 to 220 px a side, framed by one seed each.

    The head is turned in the plane by up to 25 degrees and its aligned crop is 60 to 76 px wide.
    """
    if len(seeds) != len(factors):
        raise ValueError(f"{len(factors)} rows of factors but {len(seeds)} seeds; give one seed per row")
    rows = factors.float()
    return [_render_one(rows[i : i + 1], seed) for i, seed in enumerate(seeds)]
