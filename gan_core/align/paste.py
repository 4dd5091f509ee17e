"""Paste a face crop back into its photograph."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from gan_core.geometry import Points


def paste_face(photo: Image.Image, face: Image.Image, quad: ArrayLike, feather: float = 0.1) -> Image.Image:
    """Return ``photo`` with ``face`` pasted into the rectangle ``quad [4, 2]`` (corners as in ``FaceSquare.corners``).

    ``feather`` is the width of the soft edge inside the quad as a share of its sides; 0 means a hard edge. Pixels
    outside of the quad keep their exact values, and parts of it outside of the photo are ignored.
    """
    corners = np.asarray(quad, dtype=np.float64)
    left, top = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)) + 1, photo.size).astype(int).tolist()
    pasted = photo.copy()
    if left >= right or top >= bottom:
        return pasted
    y, x = np.mgrid[top:bottom, left:right]
    across, down = _place(corners, np.stack([x, y], axis=-1))
    mask = feathered(across, down, feather)[..., None]
    drawn = _draw(face, corners, (left, top, right - left, bottom - top))
    before = np.asarray(photo.crop((left, top, right, bottom)), dtype=np.float64)
    blended = np.where(mask > 0, np.rint(before + mask * (drawn - before)), before)
    pasted.paste(Image.fromarray(blended.clip(0, 255).astype(np.uint8)), (left, top))
    return pasted


def feathered(across: NDArray[np.float64], down: NDArray[np.float64], feather: float) -> NDArray[np.float64]:
    """Return the face's weight ``[H, W]``: 0 outside, 1 inside of the soft edge, and a smooth step between.

    ``across`` and ``down`` ``[H, W]`` are positions in shares of the quad's sides, 0 to 1 within it.
    """
    depth = np.minimum(np.minimum(across, 1 - across), np.minimum(down, 1 - down))
    if feather <= 0:
        return (depth > 0).astype(np.float64)
    step = np.clip(depth / feather, 0, 1)
    return step * step * (3 - 2 * step)


def _place(corners: Points, pixels: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the positions of pixels ``[..., 2]`` in shares of the quad's sides from its top left corner."""
    across, down = _sides(corners)
    from_corner = pixels - corners[0]
    length = across @ across
    depth = length if _equally_long(across, down) else down @ down
    return from_corner @ across / length, from_corner @ down / depth


def _sides(corners: Points) -> tuple[Points, Points]:
    """Return the upper and the left side of a quad as vectors from its top left corner."""
    return corners[3] - corners[0], corners[1] - corners[0]


def _equally_long(across: Points, down: Points) -> bool:
    """Whether a quad is a square; the corners of stored ones are rounded to float32, 0.002 px at 32,768 px."""
    return bool(abs(np.hypot(*across) - np.hypot(*down)) < 0.01)


def _draw(face: Image.Image, corners: Points, box: tuple[int, int, int, int]) -> NDArray[np.float64]:
    """Resample the face to the pixels of ``box`` (left, top, width, height); a larger face is reduced first."""
    left, top, width, height = box
    across, down = _sides(corners)
    length = float(np.hypot(*across))
    depth = length if _equally_long(across, down) else float(np.hypot(*down))
    size = min(face.width, max(round(length), 1)), min(face.height, max(round(depth), 1))
    if size != face.size:
        face = face.resize(size, Image.Resampling.LANCZOS)
    scale, scale_down = size[0] / length**2, size[1] / depth**2
    # Pillow maps the centre of an output pixel (whose edges are at integers) to a position in the face
    origin = np.array([left, top]) - corners[0] - 0.5
    a, b = across * scale
    d, e = down * scale_down
    matrix = (a, b, origin @ across * scale, d, e, origin @ down * scale_down)
    margin = 2  # the reach of the bicubic filter
    padded = Image.fromarray(np.pad(np.asarray(face), ((margin, margin), (margin, margin), (0, 0)), "edge"))
    shifted = (matrix[0], matrix[1], matrix[2] + margin, matrix[3], matrix[4], matrix[5] + margin)
    drawn = padded.transform((width, height), Image.Transform.AFFINE, shifted, Image.Resampling.BICUBIC)
    return np.asarray(drawn, dtype=np.float64)
