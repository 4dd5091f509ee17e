"""Toy portraits: small shaded 3-D heads drawn from 40 factors, with exact ground truth."""

from .anatomy import LANDMARK_NAMES
from .canvas import SEGMENTATION_LABELS
from .factors import (
    ATTRIBUTES,
    FACTOR_NAMES,
    FACTORS,
    IDENTITY_FACTORS,
    Factor,
    factors_from_gaussian,
    sample_factors,
)
from .render import Portraits, render
from .wild import WildPortrait, render_wild

__all__ = [
    "ATTRIBUTES",
    "FACTORS",
    "FACTOR_NAMES",
    "IDENTITY_FACTORS",
    "LANDMARK_NAMES",
    "SEGMENTATION_LABELS",
    "Factor",
    "Portraits",
    "WildPortrait",
    "factors_from_gaussian",
    "render",
    "render_wild",
    "sample_factors",
]
