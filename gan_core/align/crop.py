"""Crop the face square from an image as FFHQ does: shrink, crop, pad, transform, downsample.

Source: Karras et al. 2019, appendix C, as in the published alignment scripts, with float64 geometry. The constants
(border 0.1, padding 0.3 and blur 0.02 of the side, fade) are those of the scripts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from gan_core.align.quad import FaceSquare
from gan_core.geometry import SQUARE, Frame, Points


@dataclass(frozen=True)
class View:
    """An RGB image with the ``quad [4, 2]`` of the face and its ``side``, in pixels of that image."""

    image: Image.Image
    quad: Points
    side: float

    @property
    def border(self) -> int:
        """The margin around the quad in pixels."""
        return max(int(np.rint(self.side * 0.1)), 3)

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """The integer box around the quad: left, top, right, bottom."""
        left, top = np.floor(self.quad.min(axis=0)).astype(int).tolist()
        right, bottom = np.ceil(self.quad.max(axis=0)).astype(int).tolist()
        return left, top, right, bottom


def align_face(
    image: Image.Image,
    square: FaceSquare,
    size: int,
    transform_size: int,
    enable_padding: bool = True,
    frame: Frame = SQUARE,
) -> Image.Image:
    """Crop ``square`` from an RGB image as an upright image of ``size`` x ``size`` pixels, or the ``frame`` of it.

    This is the crop of FFHQ (Karras et al. 2019, appendix C, as in the published alignment scripts). The square is
    sampled bilinearly at ``transform_size`` and reduced with a Lanczos filter. With ``enable_padding``, parts outside
    of the image are its reflection, blurred and faded to the median colour; otherwise they are black. Raises
    ``ValueError`` for a square without a side or a place, as landmarks give that coincide or are not finite.
    """
    if not np.isfinite([*square.centre, *square.half]).all() or not square.side > 0:
        raise ValueError(
            f"the face square is {square.side:g} px wide at {square.centre.tolist()}: landmarks that coincide or are "
            "not finite give no square, leave this face out"
        )
    view = prepare_view(image, square, size, enable_padding, frame)
    corners = tuple((view.quad + 0.5).flatten().tolist())
    (height, width), (rows, columns) = frame.shape(size), frame.shape(transform_size)
    face = view.image.transform((columns, rows), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
    return face.resize((width, height), Image.Resampling.LANCZOS) if size < transform_size else face


def prepare_view(
    image: Image.Image, square: FaceSquare, size: int, enable_padding: bool, frame: Frame = SQUARE
) -> View:
    """Shrink, crop and pad an image, and return it with the quad that the transform reads."""
    view = _crop(_shrink(View(image, square.framed(frame), square.side), size))
    return _pad(view) if enable_padding else view


def _shrink(view: View, size: int) -> View:
    factor = int(np.floor(view.side / size * 0.5))
    if factor <= 1:
        return view
    width, height = (max(int(np.rint(length / factor)), 1) for length in view.image.size)
    image = view.image.resize((width, height), Image.Resampling.LANCZOS)
    return View(image, view.quad / factor, view.side / factor)


def _crop(view: View) -> View:
    left, top, right, bottom = view.bounds
    width, height = view.image.size
    box = (
        max(left - view.border, 0),
        max(top - view.border, 0),
        min(right + view.border, width),
        min(bottom + view.border, height),
    )
    if box == (0, 0, width, height):
        return view
    return View(view.image.crop(box), view.quad - box[:2], view.side)


def _pad(view: View) -> View:
    left, top, right, bottom = view.bounds
    width, height = view.image.size
    overhang = np.array([-left, -top, right - width, bottom - height])
    pad = np.maximum(overhang + view.border, 0)
    if pad.max() <= view.border - 4:
        return view
    pad = np.maximum(pad, int(np.rint(view.side * 0.3)))
    pixels = np.pad(np.asarray(view.image, dtype=np.float32), ((pad[1], pad[3]), (pad[0], pad[2]), (0, 0)), "reflect")
    faded = _fade_margin(pixels, pad, view.side * 0.02)
    image = Image.fromarray(np.uint8(np.clip(np.rint(faded), 0, 255)))
    return View(image, view.quad + pad[:2], view.side)


def _fade_margin(pixels: NDArray[np.float32], pad: NDArray[np.int_], sigma: float) -> NDArray[np.float32]:
    """Blur ``[H, W, 3]`` towards its edges, then fade it to the median; ``pad`` is left, top, right, bottom."""
    height, width, _ = pixels.shape
    y, x, _ = np.ogrid[:height, :width, :1]
    across = np.minimum(np.float32(x) / pad[0], np.float32(width - 1 - x) / pad[2])
    down = np.minimum(np.float32(y) / pad[1], np.float32(height - 1 - y) / pad[3])
    depth = np.maximum(1.0 - across, 1.0 - down)
    pixels = pixels + (gaussian_filter(pixels, [sigma, sigma, 0]) - pixels) * np.clip(depth * 3.0 + 1.0, 0.0, 1.0)
    return pixels + (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(depth, 0.0, 1.0)
