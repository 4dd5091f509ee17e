"""Orthographic rays against ellipsoids: the small 2.5-D geometry that toy heads are made of.

Scene and head axes: x to the right of the image, y down, z to the viewer; eyes near y = 0, chin near 1.2.
Arrays are ``[B, H, W]`` over pixels or ``[B, 1, 1]`` per portrait, and vectors are tuples of three of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Vector = tuple[Tensor, Tensor, Tensor]


def smoothstep(x: Tensor, low: Any, high: Any) -> Tensor:
    """Rise from 0 at ``low`` to 1 at ``high`` along the cubic 3t^2 - 2t^3."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def bell(x: Tensor, width: Any) -> Tensor:
    """Bump of height 1 like exp(-(x / width)^2), but zero (and cheap) beyond twice the width."""
    t = (1 - (x / (2 * width)).square()).clamp(min=0).square()
    return t * t


def mix(a: Any, b: Any, t: Tensor) -> Tensor:
    """Linear blend, ``a`` at t = 0 and ``b`` at t = 1."""
    return a + (b - a) * t


def dot(a: Vector, b: Vector) -> Tensor:
    """Scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def normalise(v: Vector) -> Vector:
    """Unit vector."""
    scale = torch.rsqrt(dot(v, v) + 1e-8)
    return (v[0] * scale, v[1] * scale, v[2] * scale)


@dataclass(frozen=True)
class Rotation:
    """Head-to-scene rotation; ``rows[i]`` is the scene's i-th axis in head coordinates."""

    rows: tuple[Vector, Vector, Vector]

    @classmethod
    def from_angles(cls, yaw: Tensor, pitch: Tensor, roll: Tensor) -> Rotation:
        """R = Rz(roll) Ry(yaw) Rx(pitch), angles in degrees, ``[B, 1, 1]``."""
        (sy, cy), (sp, cp), (sr, cr) = ((a.deg2rad().sin(), a.deg2rad().cos()) for a in (yaw, pitch, roll))
        turned = (cy, sy * sp, sy * cp), (torch.zeros_like(cp), cp, -sp), (-sy, cy * sp, cy * cp)
        first = tuple(cr * a - sr * b for a, b in zip(turned[0], turned[1], strict=True))
        second = tuple(sr * a + cr * b for a, b in zip(turned[0], turned[1], strict=True))
        return cls((first, second, turned[2]))  # type: ignore[arg-type]

    def to_scene(self, v: Vector) -> Vector:
        """Rotate a head vector into the scene."""
        return (dot(self.rows[0], v), dot(self.rows[1], v), dot(self.rows[2], v))


@dataclass(frozen=True)
class Rays:
    """One viewing ray per pixel, ``origin + depth * direction`` in head axes; ``pixel`` is their spacing."""

    x: Tensor
    y: Tensor
    pixel: Tensor
    rotation: Rotation
    origin: Vector
    direction: Vector

    @classmethod
    def cast(cls, x: Tensor, y: Tensor, pixel: Tensor, rotation: Rotation) -> Rays:
        """Rays through scene points (x, y), ``[B, H, W]``, ``pixel`` apart (``[B, 1, 1]``)."""
        across, down, towards = rotation.rows
        origin = tuple(x * a + y * b for a, b in zip(across, down, strict=True))
        return cls(x, y, pixel, rotation, origin, towards)  # type: ignore[arg-type]

    def at(self, depth: Tensor) -> Vector:
        """Head coordinates of the point at scene depth ``depth``."""
        o, d = self.origin, self.direction
        return (o[0] + depth * d[0], o[1] + depth * d[1], o[2] + depth * d[2])

    def cover(self, distance: Tensor, softness: float = 1.5) -> Tensor:
        """Anti-aliased opacity of the region where the signed ``distance`` is negative."""
        return (0.5 - distance / (softness * self.pixel)).clamp(0, 1)


@dataclass(frozen=True)
class Surface:
    """What rays see of a solid: scene depth, unit normal (head axes), signed distance to its outline."""

    depth: Tensor
    normal: Vector
    distance: Tensor

    def blend(self, other: Surface, width: float) -> tuple[Surface, Tensor]:
        """Smooth union by depth, and the weight of ``other`` in it."""
        theirs = other.depth - 4 * other.distance.clamp(min=0)
        weight = (0.5 + 0.5 * (theirs - self.depth) / width).clamp(0, 1)
        weight = weight * weight * (3 - 2 * weight)
        depth = mix(self.depth, theirs, weight) + width * weight * (1 - weight)
        normal = normalise(tuple(mix(a, b, weight) for a, b in zip(self.normal, other.normal, strict=True)))  # type: ignore[arg-type]
        return Surface(depth, normal, torch.minimum(self.distance, other.distance)), weight


def ellipsoid(rays: Rays, centre: tuple[Any, Any, Any], radii: tuple[Any, Any, Any]) -> Surface:
    """Nearest intersection with an axis-aligned (head axes) ellipsoid, radii possibly varying over pixels."""
    q: Vector = tuple((o - c) / r for o, c, r in zip(rays.origin, centre, radii, strict=True))  # type: ignore[assignment]
    e: Vector = tuple(d / r for d, r in zip(rays.direction, radii, strict=True))  # type: ignore[assignment]
    square, middle = dot(e, e), dot(q, e)
    rim = (dot(q, q) - middle * middle / square).clamp(min=0)  # squared, of the ray to the centre
    closest = -middle / square
    depth = closest + torch.sqrt((1 - rim).clamp(min=0) / square + 1e-9)
    normal = normalise(tuple((a + depth * b) / r for a, b, r in zip(q, e, radii, strict=True)))  # type: ignore[arg-type]
    gradient: Vector = tuple((a + closest * b) / r for a, b, r in zip(q, e, radii, strict=True))  # type: ignore[assignment]
    rho = torch.sqrt(rim + 1e-8)
    distance = rho * (rho - 1) * torch.rsqrt(dot(gradient, gradient) + 1e-8)
    return Surface(depth, normal, distance)
