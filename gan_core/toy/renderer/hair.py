"""What surrounds the face: backdrop, clothes, neck, hair and glasses."""

from __future__ import annotations

import torch
from torch import Tensor

from .anatomy import Anatomy, hue_colour
from .canvas import Canvas
from .geometry import Rays, Surface, Vector, bell, ellipsoid, mix, normalise, smoothstep
from .head import Light, Skin


def backdrop(rays: Rays, anatomy: Anatomy) -> Tensor:
    """Coloured backdrop ``[B, 3, H, W]``: a vertical gradient and a soft glow behind the head."""
    f = anatomy.factors
    light = f["background_lightness"]
    colour = hue_colour(f["background_hue"], mix(0.62, 0.30, light), mix(0.30, 0.92, light))
    fall = 1 - 0.26 * f["background_gradient"] * torch.tanh(rays.y * 0.8)
    glow = 1 + 0.14 * bell(torch.sqrt(rays.x.square() + rays.y.square()), 1.6)
    return (colour * (fall * glow)[:, None]).clamp(0, 1)


def paint_body(canvas: Canvas, rays: Rays, anatomy: Anatomy, light: Light) -> None:
    """Shoulders in clothes; they stay upright while the head turns."""
    f, x, y = anatomy.factors, rays.x, rays.y
    slope = x.abs()
    shoulder = 1.22 + 0.22 * slope.square() - 0.05 * slope + 5 * (slope - 1.3).clamp(min=0).square()
    value = mix(0.22, 0.92, f["clothes_lightness"])
    colour = hue_colour(f["clothes_hue"], mix(0.75, 0.35, f["clothes_lightness"]), value)
    upward = -0.75 + 0.5 * smoothstep(y - shoulder, 0, 0.7)
    normal = normalise((0.75 * torch.tanh(0.7 * x), upward, torch.full_like(x, 0.8)))
    canvas.paint(colour * light.shade(normal)[:, None], rays.cover(shoulder - y), "clothes")


def paint_neck(canvas: Canvas, rays: Rays, anatomy: Anatomy, light: Light) -> None:
    """The neck and the skin in the neckline, under the shadow of the chin."""
    f, x, y = anatomy.factors, rays.x, rays.y
    lean = -0.004 * f["roll"] * (1 - smoothstep(y, 0.4, 1.3))
    half = 0.40 * anatomy.half_width / 0.84 + 0.02 * f["jaw_width"] + 0.10 * smoothstep(y, 1.1, 1.5)
    scarp = (x - lean) / half
    collar = torch.sqrt((x / 0.52).square() + ((y - 1.1) / 0.45).square() + 1e-6) - 1
    distance = torch.maximum(torch.maximum((scarp.abs() - 1) * half, collar * 0.45), 0.3 - y)
    normal = normalise(
        (
            scarp.clamp(-1, 1) * 0.9,
            torch.full_like(x, 0.1),
            torch.sqrt((1.05 - scarp.square()).clamp(min=0.02)),
        )
    )
    chin_y = anatomy.rotation.to_scene((0 * lean, anatomy.half_height, 0.35 + 0 * lean))[1]
    shadow = 1 - 0.42 * (1 - smoothstep(y - chin_y + 0.25 * x.square(), -0.05, 0.30))
    canvas.paint(anatomy.skin * (0.97 * light.shade(normal) * shadow)[:, None], rays.cover(distance), "neck")
    canvas.darken(0.35 * rays.cover(distance.abs() - 0.015) * smoothstep(y, 1.2, 1.4))


def hair_shell(rays: Rays, anatomy: Anatomy) -> Surface:
    """The outer surface of the hair: a larger skull, falling straighter below the eyes if long."""
    f = anatomy.factors
    length, puff = smoothstep(f["hair_length"], 0.2, 0.7), f["hair_volume"] * mix(0.6, 1.0, f["hair_length"])
    lower = mix(1.05, 2.5, length)
    tall = torch.where(rays.origin[1] > -0.1, lower, anatomy.half_height - 0.03 + 0.13 * puff)
    waves = 0.035 * f["hair_curl"] * torch.sin(rays.origin[1] * 11) * smoothstep(rays.origin[1], -0.9, 0.2)
    wide = anatomy.half_width * 1.05 + 0.02 + 0.13 * puff + waves
    return ellipsoid(rays, (0, -0.1, -0.08), (wide, tall, anatomy.half_depth + 0.10))


def hair_colour(anatomy: Anatomy, light: Light, shell: Surface, point: Vector) -> Tensor:
    """Shaded hair ``[B, 3, H, W]``: matte light, a band of gloss, and broad strands."""
    around = torch.atan2(point[0], point[2] + 0.6)
    sway = mix(0.6, 2.4, anatomy.factors["hair_curl"]) * torch.sin(point[1] * 7)
    strands = 1 + 0.11 * torch.sin(around * 15 + sway)
    normal = anatomy.rotation.to_scene(shell.normal)
    matte = (anatomy.hair + 0.02) * (light.shade(normal) * strands)[:, None]
    gloss = light.gloss(normal, 14.0) * strands
    return matte + (0.10 + 0.22 * anatomy.hair) * gloss[:, None]


def hair_ends(anatomy: Anatomy) -> Tensor:
    """Height at which the hair ends, from the nape to below the shoulders."""
    return mix(0.25, 1.65, anatomy.factors["hair_length"])


def paint_back_hair(canvas: Canvas, rays: Rays, anatomy: Anatomy, light: Light, shell: Surface) -> None:
    """The hair that hangs behind neck and face, in the shade."""
    point = rays.at(shell.depth)
    ends = rays.cover(point[1] - hair_ends(anatomy) + 0.05 * point[0].square(), 4.0)
    shade = 0.62 + 0.25 * smoothstep(point[0].abs(), 0.5, 1.0)
    colour = hair_colour(anatomy, light, shell, point) * shade[:, None]
    canvas.paint(colour, rays.cover(shell.distance) * ends, "hair")


def hairline(anatomy: Anatomy, point: Vector) -> Tensor:
    """Height down to which the shell bears hair: forehead, bangs, sideburns, falling sides."""
    f = anatomy.factors
    x, around = point[0], torch.atan2(point[0].abs(), point[2])
    bangs = smoothstep(f["bangs"], 0.52, 0.60)
    parting = 0.22 * f["hair_part"] * x - 0.10 * bell(x + 0.35 * f["hair_part"], 0.16)
    forehead = -0.70 - 0.05 * f["age"] + parting
    fringe = mix(-0.44, -0.33, smoothstep(f["bangs"], 0.55, 1.0)) + 0.03 * torch.cos(x * 13)
    front = mix(forehead, fringe, bangs)
    temple = mix(0.70, 1.05, around / 1.5)
    side = front + (0.02 - front) * smoothstep(around, temple, temple + 0.45)
    nape = side + 0.45 * smoothstep(around, 1.75, 2.1)
    ends = hair_ends(anatomy)
    falling = smoothstep(around, 0.88, 1.12) * (ends - 0.25) * smoothstep(f["hair_length"], 0.1, 0.3)
    return torch.minimum(nape + falling, ends.clamp(min=0.47))


def paint_front_hair(canvas: Canvas, rays: Rays, anatomy: Anatomy, light: Light, shell: Surface) -> None:
    """The hair over the skull, down to the hairline, with a soft shadow below it."""
    point = rays.at(shell.depth)
    edge, cover = point[1] - hairline(anatomy, point), rays.cover(shell.distance)
    canvas.darken(0.30 * cover * (1 - smoothstep(edge, 0.0, 0.13)))
    canvas.paint(hair_colour(anatomy, light, shell, point), cover * rays.cover(edge, 3.0), "hair")


def frame_shape(anatomy: Anatomy) -> tuple[Tensor, Tensor, Tensor]:
    """Centre x, half width and half height of a lens."""
    square = anatomy.factors["glasses_shape"]
    return anatomy.eye_x + 0.01, mix(0.27, 0.315, square), mix(0.265, 0.20, square)


def glasses_worn(anatomy: Anatomy) -> Tensor:
    """Opacity of the glasses, steep in their factor."""
    return smoothstep(anatomy.factors["glasses"], 0.61, 0.69)


def paint_temples(canvas: Canvas, rays: Rays, anatomy: Anatomy, skin: Skin) -> None:
    """The arms of the glasses, from the rims to the ears, hidden where the head is nearer."""
    centre, wide, _ = frame_shape(anatomy)
    hinge_z, ear_x = anatomy.half_depth + 0.02, anatomy.half_width + 0.03
    for side in (-1.0, 1.0):
        hinge = anatomy.rotation.to_scene((side * (centre + wide), 0 * centre, hinge_z))
        ear = anatomy.rotation.to_scene((side * ear_x, 0 * centre, 0 * centre))
        along: Vector = tuple(b - a for a, b in zip(hinge, ear, strict=True))  # type: ignore[assignment]
        u, v = rays.x - hinge[0], rays.y - hinge[1]
        t = ((u * along[0] + v * along[1]) / (along[0].square() + along[1].square() + 1e-4)).clamp(0, 1)
        arm = torch.sqrt((u - t * along[0]).square() + (v - t * along[1]).square() + 1e-8) - 0.026
        hidden = skin.cover * smoothstep(skin.surface.depth - (hinge[2] + t * along[2]), 0.0, 0.1)
        canvas.paint(0.07, glasses_worn(anatomy) * rays.cover(arm) * (1 - hidden) * 0.94, "glasses")


def paint_glasses(canvas: Canvas, rays: Rays, anatomy: Anatomy, light: Light) -> None:
    """Two rims and a bridge, on a plane before the eyes; opacity rises steeply with the factor."""
    worn, square = glasses_worn(anatomy), anatomy.factors["glasses_shape"]
    plane = anatomy.half_depth + 0.02
    x, y, _ = rays.at((plane - rays.origin[2]) / rays.direction[2])
    centre, wide, tall = frame_shape(anatomy)
    u, v = (x.abs() - centre) / wide, (y - 0.035) / tall
    power = mix(2.0, 4.5, square)
    reach = ((u.abs() + 1e-4) ** power + (v.abs() + 1e-4) ** power) ** (1 / power)
    rim = (reach - 1) * torch.minimum(wide, tall)
    inner = centre - wide
    bridge = torch.maximum((y + 0.03 + 0.25 * (inner - x.abs())).abs() - 0.024, x.abs() - inner)
    frame = torch.minimum(rim.abs() - 0.026, bridge)
    glass = rays.cover(rim, 2.0)
    canvas.paint(0.85, worn * glass * (0.08 + 0.22 * bell(u - v * 0.8 + 0.9 * light.towards[0], 0.28)))
    canvas.paint(
        canvas.colour.new_tensor([0.09, 0.07, 0.08])[:, None, None],
        worn * rays.cover(frame) * 0.96,
        "glasses",
    )
