"""The head: skull, nose and ears as a shaded surface, with eyes, brows, mouth and wrinkles drawn on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .anatomy import IRIS_TONES, MOUTH_Y, Anatomy, ramp
from .canvas import Canvas
from .geometry import Rays, Surface, Vector, bell, dot, ellipsoid, mix, normalise, smoothstep

AMBIENT = 0.45


@dataclass(frozen=True)
class Light:
    """A directional light, as the unit vector towards it in scene axes."""

    towards: Vector

    @classmethod
    def from_anatomy(cls, anatomy: Anatomy) -> Light:
        """The light that the factors describe."""
        f = anatomy.factors
        azimuth, elevation = f["light_azimuth"].deg2rad(), f["light_elevation"].deg2rad()
        towards = (azimuth.sin() * elevation.cos(), -elevation.sin(), azimuth.cos() * elevation.cos())
        return cls(towards)

    def shade(self, normal: Vector) -> Tensor:
        """Brightness of a matte surface with scene ``normal``, 0.45 to 1.08."""
        return AMBIENT + (1.08 - AMBIENT) * ((dot(normal, self.towards) + 0.2) / 1.2).clamp(min=0)

    def gloss(self, normal: Vector, power: float) -> Tensor:
        """Blinn-Phong highlight in [0, 1], seen from the front."""
        x, y, z = self.towards
        half = normalise((x, y, z + 1))
        return dot(normal, half).clamp(min=0) ** power


@dataclass(frozen=True)
class Skin:
    """The visible surface of the head: geometry, where on it each ray lands, and the weight of nose in it."""

    surface: Surface
    point: Vector
    nose: Tensor
    cover: Tensor


def skin_surface(rays: Rays, anatomy: Anatomy) -> Skin:
    """Intersect rays with skull, chin and nose, smoothly joined."""
    a, b, c = anatomy.half_width, anatomy.half_height, anatomy.half_depth
    height = rays.origin[1]
    for _ in range(2):  # the jaw's width depends on the height of the hit, a fixed point of few steps
        skull = ellipsoid(rays, (0, 0, 0), (a * anatomy.width_at(height), b, c))
        height = rays.at(skull.depth)[1]
    grown, wide, tip = mix(0.8, 1.15, anatomy.factors["chin"]), anatomy.nose_wide, anatomy.nose_y
    chin = ellipsoid(rays, (0, b - 0.17, 0.42), (0.27 * grown, 0.19 * grown, 0.24))
    face, _ = skull.blend(chin, 0.3)
    bridge = ellipsoid(rays, (0, tip - 0.19, c - 0.06), (0.095 * wide, 0.36, 0.15))
    ball = ellipsoid(rays, (0, tip, c), (0.125 * wide, 0.11, 0.17))
    wings = ellipsoid(rays, (0, tip + 0.045, c - 0.07), (0.20 * wide, 0.085, 0.15))
    nose, _ = bridge.blend(ball, 0.08)
    nose, _ = nose.blend(wings, 0.05)
    surface, weight = face.blend(nose, 0.07)
    return Skin(surface, rays.at(surface.depth), weight, rays.cover(surface.distance))


def paint_skin(canvas: Canvas, rays: Rays, anatomy: Anatomy, light: Light, skin: Skin) -> None:
    """Shade the head and its soft shadows: sockets, cheeks, under the nose and lip."""
    x, y, _ = skin.point
    normal = anatomy.rotation.to_scene(skin.surface.normal)
    canvas.paint(anatomy.skin * light.shade(normal)[:, None], skin.cover, "skin")
    blush = bell(x.abs() - 0.46, 0.22) * bell(y - 0.42, 0.2) * 0.22 * skin.cover * (1 - skin.nose)
    canvas.paint(anatomy.skin * canvas.colour.new_tensor([1.02, 0.72, 0.70])[:, None, None], blush)
    face = skin.cover * (1 - skin.nose)
    canvas.darken(face * 0.20 * bell(x.abs() - anatomy.eye_x + 0.06, 0.26) * bell(y + 0.05, 0.17))
    cast = -0.14 * light.towards[0]
    under = anatomy.nose_y + 0.15
    canvas.darken(face * 0.40 * bell(x - cast, 0.17 * anatomy.nose_wide) * bell(y - under, 0.06))
    canvas.darken(face * 0.16 * bell(x, 0.16) * bell(y - MOUTH_Y - 0.19, 0.05))
    canvas.paint(1.0, 0.16 * light.gloss(normal, 24.0) * skin.cover * mix(0.5, 1.0, skin.nose))
    canvas.paint(canvas.colour, skin.cover * skin.nose * smoothstep(y, -0.02, 0.12), "nose")
    hole = ((x.abs() - 0.085 * anatomy.nose_wide) / 1.35).square() + (y - anatomy.nose_y - 0.085).square()
    canvas.darken(skin.cover * 0.62 * (1 - smoothstep(hole.sqrt(), 0.015, 0.055)))


def paint_ears(canvas: Canvas, rays: Rays, anatomy: Anatomy, light: Light, skin: Skin) -> None:
    """Two flat ellipsoids at the sides of the skull, hidden where the head is nearer."""
    size = mix(0.8, 1.2, anatomy.factors["ear_size"])
    for side in (-1.0, 1.0):
        centre = (side * (anatomy.half_width + 0.01), 0.12, -0.02)
        ear = ellipsoid(rays, centre, (0.10 * size, 0.24 * size, 0.15))
        nearer = smoothstep(ear.depth - skin.surface.depth, -0.04, 0.04)
        alpha = rays.cover(ear.distance) * (1 - skin.cover * (1 - nearer))
        fold = 1 - 0.35 * bell(ear.distance + 0.06, 0.03)
        shade = light.shade(anatomy.rotation.to_scene(ear.normal)) * fold
        rosy = canvas.colour.new_tensor([1.0, 0.90, 0.88])[:, None, None]
        canvas.paint(anatomy.skin * rosy * shade[:, None], alpha, "ears")


def paint_eyes(canvas: Canvas, rays: Rays, anatomy: Anatomy, skin: Skin) -> None:
    """Both eyes: lids, whites, iris, pupil and a glint; they look towards the viewer."""
    f, face = anatomy.factors, skin.cover * (1 - skin.nose)
    wide, tall = anatomy.eye_half
    iris_colour = ramp(IRIS_TONES, f["eye_colour"])
    lash = anatomy.hair * 0.25
    for side, label in ((-1.0, "left_eye"), (1.0, "right_eye")):
        x = skin.point[0] * side - anatomy.eye_x  # grows outwards
        y = skin.point[1] + mix(-0.06, 0.17, 0.5 + 0.5 * f["eye_tilt"]) * x
        profile = 1 - (x / wide).square()
        upper = -y - tall * 1.1 * profile
        lower = y - tall * 0.8 * profile
        slope = torch.sqrt(1 + (2 * tall * x / wide.square()).square())
        lids = torch.maximum(upper, lower) / slope
        almond = rays.cover(lids, 2.0) * face
        crease = bell((upper / slope - 0.075) / (0.02 + rays.pixel * 0.4), 1.0) * bell(x, wide * 0.9)
        canvas.darken(0.30 * crease * face)
        canvas.darken(0.28 * f["age"] * bell(lower / slope - 0.07, 0.03) * bell(x, wide * 0.8) * face)
        white = canvas.colour.new_tensor([0.97, 0.96, 0.95])[:, None, None]
        canvas.paint(white * (1 - 0.38 * smoothstep(-upper, 0.09, 0.0))[:, None], almond, label)
        gaze_x, gaze_y = -f["yaw"] * 0.0022 * side, f["pitch"] * 0.002
        radius = torch.sqrt((x - gaze_x).square() + (y + 0.015 - gaze_y).square())
        disc, size = almond, 0.47 * wide
        canvas.paint(iris_colour * 0.45, disc * rays.cover(radius - size))
        canvas.paint(
            iris_colour * (1 + 0.35 * smoothstep(y, -0.04, 0.08))[:, None],
            disc * rays.cover(radius - size * 0.82),
        )
        canvas.paint(0.03, disc * rays.cover(radius - size * 0.45))
        glint = torch.sqrt((skin.point[0] - side * anatomy.eye_x - 0.035).square() + (y + 0.055).square())
        canvas.paint(1.0, 0.95 * disc * rays.cover(glint - 0.026))
        line = (upper / slope).abs() - 0.021
        canvas.paint(lash, 0.9 * face * rays.cover(line) * smoothstep(wide * 1.12 - x.abs(), 0.0, 0.05))


def paint_brows(canvas: Canvas, rays: Rays, anatomy: Anatomy, skin: Skin) -> None:
    """Tapered arcs above the eyes, in a darker hair colour."""
    f = anatomy.factors
    x = skin.point[0].abs() - anatomy.eye_x - 0.01
    along = x / 0.26
    arch = mix(0.01, 0.085, f["brow_arch"])
    middle = -0.285 - arch * (1 - (along - 0.12).square()) + 0.03 * along * (1 - f["smile"])
    half = mix(0.016, 0.066, f["brow_thickness"]) * mix(1.0, 0.55, smoothstep(along, -0.3, 1.0))
    distance = torch.maximum((skin.point[1] - middle).abs() - half, (along.abs() - 1) * 0.26 + 0.3 * half)
    colour = mix(anatomy.hair * 0.62, anatomy.skin * 0.45, torch.full_like(anatomy.hair[:, :1], 0.25))
    canvas.paint(colour, rays.cover(distance, 2.2) * skin.cover * (1 - skin.nose) * 0.95, "brows")


def paint_mouth(canvas: Canvas, rays: Rays, anatomy: Anatomy, skin: Skin) -> None:
    """Lips around a mouth line that bends with the smile and opens on teeth in its upper half."""
    f, face = anatomy.factors, skin.cover * (1 - skin.nose)
    x, y, half = skin.point[0], skin.point[1], anatomy.mouth_half
    along = (x / half).clamp(-1.3, 1.3)
    arc = 1 - along.square()
    line = MOUTH_Y - anatomy.corner_lift + anatomy.corner_lift * 1.25 * arc
    opened = smoothstep(f["smile"], 0.38, 0.95)
    gap = 0.135 * opened * arc.clamp(min=0)
    full = mix(0.045, 0.095, f["lip_fullness"]) * mix(1.0, 0.8, opened)
    bow = 1 - 0.22 * bell(along, 0.16)  # the dip of the upper lip
    rise = y - line  # below the line is positive
    top, bottom = -gap * 0.45 - full * 0.85 * arc * bow, gap * 0.75 + full * 1.1 * arc
    ends = (along.abs() - 1) * half
    lips = torch.maximum(torch.maximum(top - rise, rise - bottom), ends)
    red = canvas.colour.new_tensor([1.0, 0.52, 0.52])[:, None, None]
    rouge = canvas.colour.new_tensor([0.80, 0.16, 0.22])[:, None, None]
    tint = mix(anatomy.skin * red * 0.92, rouge, 0.62 * f["lip_redness"][:, None])
    shade = mix(0.80, 1.12, smoothstep(rise, -0.02, 0.05)) * (1 - 0.12 * smoothstep(rise, 0.06, 0.14))
    canvas.paint(tint * shade[:, None], rays.cover(lips, 2.0) * face, "mouth")
    inner = torch.maximum(-gap * 0.45 - rise, rise - gap * 0.75)
    hollow = rays.cover(torch.maximum(inner, ends + 0.02), 2.0) * face * smoothstep(gap, 0.0, 0.04)
    canvas.paint(canvas.colour.new_tensor([0.34, 0.08, 0.09])[:, None, None], hollow, "mouth")
    ivory = canvas.colour.new_tensor([0.98, 0.97, 0.94])[:, None, None]
    teeth = rays.cover(rise - gap * 0.60, 2.0) * smoothstep(1 - along.abs(), 0.04, 0.2)
    canvas.paint(ivory, hollow * teeth * smoothstep(opened, 0.0, 0.35), "teeth")
    seam = rays.cover(torch.maximum(rise.abs() - 0.016, ends - 0.015), 2.0)
    canvas.darken(0.62 * face * seam * (1 - smoothstep(gap, 0.0, 0.04)))
    corners = bell(x.abs() - half - 0.02, 0.045) * bell(y - MOUTH_Y + anatomy.corner_lift, 0.05)
    canvas.darken(0.35 * face * corners)


def paint_lines(canvas: Canvas, anatomy: Anatomy, skin: Skin) -> None:
    """Folds of a smile, and the wrinkles of age: forehead, crow's feet, beside the mouth."""
    f, face = anatomy.factors, skin.cover * (1 - skin.nose)
    x, y = skin.point[0].abs(), skin.point[1]
    old: Any = smoothstep(f["age"], 0.35, 1.0)
    fold = x - 0.22 - 0.30 * smoothstep(y, 0.38, 0.95)
    depth = 0.24 * old + 0.14 * smoothstep(f["smile"], 0.3, 1.0)
    canvas.darken(face * depth * bell(fold, 0.036) * smoothstep(y, 0.38, 0.52) * smoothstep(-y, -0.95, -0.78))
    rows = (0.5 + 0.5 * torch.cos((y + 0.05 * (1 - (x / 0.5).square())) * (2 * torch.pi / 0.125))) ** 3
    brow = smoothstep(-y, 0.40, 0.48) * smoothstep(y, -0.82, -0.74) * bell(x, 0.42)
    canvas.darken(face * 0.30 * old * rows * brow)
    angle = torch.atan2(y, x - anatomy.eye_x + 0.04)
    reach = torch.sqrt((x - anatomy.eye_x).square() + y.square())
    feet = (0.5 + 0.5 * torch.cos(angle * 11)) ** 3 * bell(reach - 0.33, 0.08) * bell(angle, 0.6)
    canvas.darken(face * 0.34 * old * feet)
