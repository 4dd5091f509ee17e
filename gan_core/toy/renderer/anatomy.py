"""Measures and colours of one toy head, derived from its factors, and where its landmarks lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .geometry import Rotation, Vector, bell, mix, smoothstep

LANDMARK_NAMES: tuple[str, ...] = (
    "left_eye",
    "right_eye",
    "nose_tip",
    "left_mouth_corner",
    "right_mouth_corner",
)
MOUTH_Y = 0.75

SKIN_TONES = (
    (0.96, 0.82, 0.74),
    (0.93, 0.74, 0.62),
    (0.82, 0.60, 0.44),
    (0.62, 0.41, 0.28),
    (0.40, 0.25, 0.17),
)
HAIR_TONES = ((0.07, 0.06, 0.07), (0.27, 0.17, 0.11), (0.56, 0.36, 0.19), (0.92, 0.77, 0.47))
IRIS_TONES = ((0.24, 0.13, 0.06), (0.46, 0.29, 0.10), (0.27, 0.48, 0.28), (0.20, 0.47, 0.74))


def ramp(stops: tuple[tuple[float, float, float], ...], t: Tensor) -> Tensor:
    """Piecewise linear colour ``[B, 3, 1, 1]`` at position t in [0, 1] (``[B, 1, 1]``) along ``stops``."""
    table = t.new_tensor(stops)
    scaled = t.flatten().clamp(0, 1) * (len(stops) - 1)
    below = scaled.long().clamp(max=len(stops) - 2)
    return torch.lerp(table[below], table[below + 1], (scaled - below)[:, None])[:, :, None, None]


def hue_colour(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Smooth colour wheel ``[B, 3, 1, 1]``: value times (1 - saturation + saturation * raised cosine)."""
    shift = hue.new_tensor([0.0, 1.0, 2.0])[:, None, None] / 3
    wheel = 0.5 + 0.5 * torch.cos(2 * torch.pi * (hue[:, None] - shift))
    return value[:, None] * (1 - saturation[:, None] * (1 - wheel))


@dataclass(frozen=True)
class Anatomy:
    """Measures ``[B, 1, 1]`` in scene units and colours ``[B, 3, 1, 1]`` in [0, 1] of a batch of heads."""

    factors: Mapping[str, Tensor]
    rotation: Rotation
    half_width: Tensor
    half_height: Tensor
    half_depth: Tensor
    eye_x: Tensor
    eye_half: tuple[Tensor, Tensor]
    nose_y: Tensor
    nose_wide: Tensor
    mouth_half: Tensor
    corner_lift: Tensor
    skin: Tensor
    hair: Tensor
    grey: Tensor

    @classmethod
    def from_factors(cls, f: Mapping[str, Tensor]) -> Anatomy:
        """Measure the heads whose named factor columns are ``f``."""
        smile = f["smile"]
        size = mix(0.20, 0.235, f["eye_size"])
        grey = smoothstep(f["age"], 0.5, 1.0)
        golden = f["skin_warmth"][:, None]
        tint = torch.cat([1 + 0.01 * golden, 1 + 0.025 * golden, 1 - 0.06 * golden], dim=1)
        red = mix(-0.25, 1.0, f["hair_warmth"].square())[:, None]
        dye = torch.cat([1 + 0.30 * red, 1 - 0.12 * red, 1 - 0.48 * red], dim=1)
        hair = (ramp(HAIR_TONES, f["hair_lightness"]) * dye).clamp(0, 1)
        silver = hair.new_tensor([0.80, 0.80, 0.83])[:, None, None]
        return cls(
            factors=f,
            rotation=Rotation.from_angles(f["yaw"], f["pitch"], f["roll"]),
            half_width=mix(0.76, 0.92, f["face_width"]),
            half_height=mix(1.10, 1.24, f["face_length"]),
            half_depth=torch.full_like(smile, 0.92),
            eye_x=mix(0.345, 0.405, f["eye_spacing"]),
            eye_half=(
                size,
                size * mix(0.30, 0.62, f["eye_openness"]) * (1 - 0.18 * smoothstep(smile, 0.5, 1)),
            ),
            nose_y=mix(0.36, 0.47, f["nose_length"]),
            nose_wide=mix(0.75, 1.3, f["nose_width"]),
            mouth_half=mix(0.25, 0.34, f["mouth_width"]) * mix(0.92, 1.25, smile),
            corner_lift=mix(-0.028, 0.11, smile),
            skin=(ramp(SKIN_TONES, f["skin_tone"]) * tint).clamp(0, 1),
            hair=mix(hair, silver, grey[:, None] * 0.85),
            grey=grey,
        )

    def width_at(self, y: Tensor) -> Tensor:
        """Half width scale of the skull at height y: square or tapered jaw, slightly hollow temples."""
        jaw = mix(-0.16, 0.13, self.factors["jaw_width"])
        return 1 + jaw * bell(y - 0.82, 0.42)

    def front(self, x: Tensor, y: Tensor) -> Vector:
        """The point of the skull's front at (x, y), head axes."""
        rim = (x / (self.half_width * self.width_at(y))) ** 2 + (y / self.half_height) ** 2
        return (x, y, self.half_depth * torch.sqrt((1 - rim).clamp(min=1e-4)))

    def landmarks(self) -> Tensor:
        """Five points ``[B, 5, 2]`` in scene coordinates (x, y), ordered as ``LANDMARK_NAMES``."""
        level, mouth = torch.zeros_like(self.eye_x), MOUTH_Y - self.corner_lift
        tip = (level, self.nose_y, self.half_depth + 0.16)
        points = [
            self.front(-self.eye_x, level),
            self.front(self.eye_x, level),
            tip,
            self.front(-self.mouth_half, mouth),
            self.front(self.mouth_half, mouth),
        ]
        scene = [self.rotation.to_scene(point) for point in points]
        return torch.stack([torch.cat([x, y], dim=-1)[:, 0] for x, y, _ in scene], dim=1)
