"""Pictures that only the measuring networks need: views of the same person, and frames with and without a head."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

from gan_core.storage.images import to_uint8
from gan_core.toy.renderer import FACTORS, IDENTITY_FACTORS, render, render_wild, sample_factors

IDENTITY_COLUMNS = [i for i, factor in enumerate(FACTORS) if factor.name in IDENTITY_FACTORS]
FRAME = 128
Arrays = dict[str, np.ndarray]


def whiten(factors: Tensor) -> Tensor:
    """Factors ``[..., F]`` -> zero mean and unit variance over the population (each is uniform on its range)."""
    low, high = (factors.new_tensor([getattr(factor, end) for factor in FACTORS]) for end in ("low", "high"))
    return (2 * (factors - low) / (high - low) - 1) * 3**0.5


def cached(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays stored at ``path`` (npz), made and stored first if they are not there."""
    if not path.exists():
        temporary = path.with_name(f"new-{path.name}")
        np.savez(temporary, **make())  # type: ignore[arg-type]
        os.replace(temporary, path)
    with np.load(path) as stored:
        return dict(stored)


def render_identities(count: int, views: int, seed: int) -> Arrays:
    """Draw ``count`` people, each in ``views`` portraits that share the identity factors and nothing else.

    ``image`` uint8 ``[count, views, 64, 64, 3]``, ``factors`` float32 ``[count, views, F]``.
    """
    factors = sample_factors(range(seed, seed + count * views)).unflatten(0, (count, views))
    factors[:, :, IDENTITY_COLUMNS] = factors[:, :1, IDENTITY_COLUMNS]
    images = [to_uint8(render(chunk).image) for chunk in factors.flatten(0, 1).split(64)]
    return {"image": np.concatenate(images).reshape(count, views, 64, 64, 3), "factors": factors.numpy()}


def render_frames(count: int, seed: int) -> Arrays:
    """Draw portraits in the wild, letterboxed with black bars to ``FRAME`` pixels.

    ``image`` uint8 ``[count, FRAME, FRAME, 3]``, ``points`` float32 ``[count, 5, 2]`` as shares of the frame.
    """
    images, points = np.zeros((count, FRAME, FRAME, 3), np.uint8), np.zeros((count, 5, 2), np.float32)
    for i, factors in enumerate(sample_factors(range(seed, seed + count))):
        (portrait,) = render_wild(factors[None], [seed + i])
        images[i], points[i] = letterbox(portrait.image, portrait.landmarks)
    return {"image": images, "points": points}


def letterbox(image: np.ndarray, points: np.ndarray, size: int = FRAME) -> tuple[np.ndarray, np.ndarray]:
    """Fit an image ``[H, W, 3]`` and its points (pixels) centred into a black square; points become shares of it."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    rows, columns = max(round(height * scale), 1), max(round(width * scale), 1)
    top, left = (size - rows) // 2, (size - columns) // 2
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    small = interpolate(pixels, (rows, columns), mode="bilinear", antialias=True, align_corners=False)
    frame = np.zeros((size, size, 3), np.uint8)
    frame[top : top + rows, left : left + columns] = small[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)
    return frame, ((points * (columns / width, rows / height) + (left, top)) / size).astype(np.float32)


@dataclass(frozen=True)
class Windows:
    """Square views ``images [B, 3, 64, 64]`` of frames, and where the points lie in them, ``[B, 5, 2]``."""

    images: Tensor
    points: Tensor

    @property
    def present(self) -> Tensor:
        """Rows that show all five points, ``[B]`` bool."""
        return ((self.points > 0.02) & (self.points < 0.98)).flatten(1).all(1)

    @property
    def absent(self) -> Tensor:
        """Rows that show nothing of the head: every point is far outside, ``[B]`` bool."""
        return ((self.points < -0.35) | (self.points > 1.35)).any(2).all(1)


def look(frames: Tensor, points: Tensor, centre: Tensor, half: Tensor, turn: Tensor) -> Windows:
    """View frames ``[B, 3, S, S]`` through squares of side ``half`` ``[B]`` (1: all of it) turned by ``turn`` radians.

    ``centre`` ``[B, 2]`` and ``points`` ``[B, 5, 2]`` are shares of the frame; what lies outside it is black.
    """
    cos, sin = half * turn.cos(), half * turn.sin()
    axes = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    theta = torch.cat([axes, (2 * centre - 1)[:, :, None]], 2)
    grid = affine_grid(theta, [len(frames), 3, 128, 128], align_corners=False)
    images = avg_pool2d(grid_sample(frames + 1, grid, align_corners=False) - 1, 2)
    inside = (points - centre[:, None]) @ torch.linalg.inv(axes).transpose(1, 2) + 0.5
    return Windows(images, inside)


def invent_clutter(count: int, rng: torch.Generator) -> Tensor:
    """Pictures without a head ``[count, 3, 64, 64]``: gradients, noise at many scales, boxes and ellipses."""
    colours = torch.rand(count, 2, 3, 1, 1, generator=rng) * 2 - 1
    ramp = torch.linspace(0, 1, 64).expand(64, 64)
    tilt = torch.rand(count, 1, 1, 1, generator=rng)
    images = colours[:, 0] + (colours[:, 1] - colours[:, 0]) * (tilt * ramp + (1 - tilt) * ramp.T)
    for size in (4, 16, 64):
        strength = torch.rand(count, 1, 1, 1, generator=rng) * (torch.rand(count, 1, 1, 1, generator=rng) < 0.4)
        noise = torch.randn(count, 3, size, size, generator=rng)
        images = images + strength.square() * interpolate(noise, (64, 64), mode="bilinear", align_corners=False)
    for _ in range(5):
        images = _lay_shape(images, rng)
    return images.clamp(-1, 1)


def _lay_shape(images: Tensor, rng: torch.Generator) -> Tensor:
    count = len(images)
    centre, radius = torch.rand(2, count, 2, 1, 1, generator=rng).unbind(0)
    colour = torch.rand(count, 3, 1, 1, generator=rng) * 2 - 1
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    away = (torch.stack([x, y]) - centre).abs() / (0.02 + 0.3 * radius)
    ellipse = torch.rand(count, 1, 1, generator=rng) < 0.5
    inside = torch.where(ellipse, away.square().sum(1), away.amax(1)) < 1
    shown = inside & (torch.rand(count, 1, 1, generator=rng) < 0.5)
    return torch.where(shown[:, None], colour, images)
