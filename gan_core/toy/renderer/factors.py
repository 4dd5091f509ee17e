"""The factors of variation of a toy portrait, and how they are drawn from a seed or from Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Factor:
    """One scalar that the renderer reads; uniform on ``[low, high]`` over the population."""

    name: str
    group: str
    low: float
    high: float
    meaning: str


FACTORS: tuple[Factor, ...] = (
    Factor("face_width", "identity", 0.0, 1.0, "narrow to wide head"),
    Factor("face_length", "identity", 0.0, 1.0, "short to long head"),
    Factor("jaw_width", "identity", 0.0, 1.0, "tapered to square jaw"),
    Factor("chin", "identity", 0.0, 1.0, "small to prominent chin"),
    Factor("eye_size", "identity", 0.0, 1.0, "small to large eyes"),
    Factor("eye_spacing", "identity", 0.0, 1.0, "close-set to wide-set eyes"),
    Factor("eye_tilt", "identity", -1.0, 1.0, "outer corners low to high"),
    Factor("eye_colour", "identity", 0.0, 1.0, "dark brown, hazel, green, blue"),
    Factor("nose_length", "identity", 0.0, 1.0, "short to long nose"),
    Factor("nose_width", "identity", 0.0, 1.0, "narrow to broad nose"),
    Factor("mouth_width", "identity", 0.0, 1.0, "narrow to wide mouth"),
    Factor("lip_fullness", "identity", 0.0, 1.0, "thin to full lips"),
    Factor("lip_redness", "identity", 0.0, 1.0, "skin-coloured to red lips"),
    Factor("brow_thickness", "identity", 0.0, 1.0, "thin to bushy brows"),
    Factor("brow_arch", "identity", 0.0, 1.0, "straight to arched brows"),
    Factor("skin_tone", "identity", 0.0, 1.0, "light to dark skin"),
    Factor("skin_warmth", "identity", -1.0, 1.0, "rosy to golden skin"),
    Factor("ear_size", "identity", 0.0, 1.0, "small to large ears"),
    Factor("yaw", "pose", -26.0, 26.0, "degrees; positive turns the nose to the right of the image"),
    Factor("pitch", "pose", -14.0, 14.0, "degrees; positive looks up"),
    Factor("roll", "pose", -6.0, 6.0, "degrees of head against body; the crop stays upright"),
    Factor("smile", "expression", 0.0, 1.0, "slight frown, closed smile, broad smile with teeth"),
    Factor("eye_openness", "expression", 0.0, 1.0, "narrowed to wide-open eyes"),
    Factor("hair_lightness", "hair", 0.0, 1.0, "black, brown, chestnut, blond"),
    Factor("hair_warmth", "hair", 0.0, 1.0, "ashen to red"),
    Factor("hair_length", "hair", 0.0, 1.0, "cropped, over the ears, to the shoulders"),
    Factor("hair_volume", "hair", 0.0, 1.0, "flat to voluminous"),
    Factor("hair_curl", "hair", 0.0, 1.0, "straight to wavy"),
    Factor("hair_part", "hair", -1.0, 1.0, "parting to the left or right of the image"),
    Factor("bangs", "hair", 0.0, 1.0, "bare forehead below 0.52, bangs above 0.6 (about 45 %)"),
    Factor("age", "age", 0.0, 1.0, "smooth and coloured to wrinkled and grey"),
    Factor("glasses", "glasses", 0.0, 1.0, "none below 0.61, frames above 0.69 (about 35 %)"),
    Factor("glasses_shape", "glasses", 0.0, 1.0, "round to rectangular frames"),
    Factor("light_azimuth", "light", -65.0, 65.0, "degrees; positive lights from the right of the image"),
    Factor("light_elevation", "light", 0.0, 45.0, "degrees above the horizon"),
    Factor("background_hue", "background", 0.0, 0.85, "hue, red through green to violet"),
    Factor("background_lightness", "background", 0.0, 1.0, "dark to bright backdrop"),
    Factor("background_gradient", "background", -1.0, 1.0, "brighter below to brighter above"),
    Factor("clothes_hue", "clothes", 0.0, 0.85, "hue, red through green to violet"),
    Factor("clothes_lightness", "clothes", 0.0, 1.0, "dark to bright clothes"),
)
FACTOR_NAMES: tuple[str, ...] = tuple(factor.name for factor in FACTORS)
IDENTITY_FACTORS: tuple[str, ...] = tuple(factor.name for factor in FACTORS if factor.group == "identity")
ATTRIBUTES: tuple[str, ...] = (
    "yaw", "pitch", "smile", "age", "hair_lightness", "hair_length",
    "bangs", "glasses", "skin_tone", "brow_thickness", "light_azimuth",
)  # fmt: skip


def factors_from_gaussian(z: Tensor) -> Tensor:
    """Map noise ``[B, F]`` ~ N(0, 1) to factor values ``[B, F]``, each uniform on its range.

    The map is the normal CDF, monotone in every factor, with column order ``FACTOR_NAMES``.
    """
    if z.ndim != 2 or z.shape[1] != len(FACTORS):
        raise ValueError(f"z has shape {tuple(z.shape)}; expected [B, {len(FACTORS)}], one column per factor")
    low = z.new_tensor([factor.low for factor in FACTORS])
    high = z.new_tensor([factor.high for factor in FACTORS])
    return low + (high - low) * torch.special.ndtr(z)


def sample_factors(seeds: Sequence[int]) -> Tensor:
    """Draw one row of factors ``[B, F]`` float32 per seed; row i depends on ``seeds[i]`` alone (PCG64)."""
    noise = [np.random.Generator(np.random.PCG64(seed)).standard_normal(len(FACTORS)) for seed in seeds]
    z = torch.from_numpy(np.array(noise).reshape(len(noise), len(FACTORS)))
    return factors_from_gaussian(z).float()


def columns(factors: Tensor) -> dict[str, Tensor]:
    """Split factors ``[B, F]`` into named columns of shape ``[B, 1, 1]``, ready to broadcast over pixels."""
    if factors.ndim != 2 or factors.shape[1] != len(FACTORS):
        raise ValueError(f"factors have shape {tuple(factors.shape)}; expected [B, {len(FACTORS)}]")
    return {name: factors[:, i, None, None] for i, name in enumerate(FACTOR_NAMES)}
