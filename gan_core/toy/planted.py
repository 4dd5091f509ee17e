"""Files for the sample dataset: unusual ones that must work, and spoiled ones that must each fail for a reason."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

Made = tuple[bytes, np.ndarray | None]


@dataclass(frozen=True)
class Frame:
    """An upright RGB image with its five landmarks ``[5, 2]``: (x, y), the first pixel's centre at (0, 0)."""

    image: Image.Image
    landmarks: np.ndarray


@dataclass(frozen=True)
class Spoiled:
    """The status that a file must end with, and how it is made from a portrait: frame -> file and landmarks."""

    status: str
    make: Callable[[Frame], Made]


def write_png(image: Image.Image) -> bytes:
    """Encode as PNG, small rather than fast."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def write_jpeg(image: Image.Image, orientation: int = 1) -> bytes:
    """Encode as JPEG of quality 95 with full colour resolution and an EXIF ``orientation`` tag unless it is 1."""
    buffer, exif = io.BytesIO(), Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    image.save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
    return buffer.getvalue()


def assemble_png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    """Put a PNG together from filtered ``rows`` as they are, whatever the header claims (PNG, section 5)."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    packed = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _sixteen_bit(image: Image.Image) -> bytes:
    pixels = np.asarray(image).astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return assemble_png(*image.size, depth=16, colour_type=2, rows=rows)


def _palette(image: Image.Image) -> bytes:
    return write_png(image.quantize(256, dither=Image.Dither.NONE))


FORMATS: dict[str, Callable[[Image.Image], bytes]] = {
    "exif-upside-down.jpg": lambda image: write_jpeg(image.transpose(Image.Transpose.ROTATE_180), 3),
    "exif-quarter-turn.jpg": lambda image: write_jpeg(image.transpose(Image.Transpose.ROTATE_90), 6),
    "exif-mirrored-turn.jpg": lambda image: write_jpeg(image.transpose(Image.Transpose.TRANSVERSE), 7),
    "rgba.png": lambda image: write_png(image.convert("RGBA")),
    "palette.png": _palette,
    "grey.png": lambda image: write_png(image.convert("L")),
    "cmyk.jpg": lambda image: write_jpeg(image.convert("CMYK")),
    "sixteen-bit.png": _sixteen_bit,
}


def _unreadable(data: bytes) -> Callable[[Frame], Made]:
    return lambda frame: (data, frame.landmarks)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _with_landmarks(frame: Frame, index: int, value: float | np.ndarray) -> Made:
    points = np.array(frame.landmarks)
    points[index] = value
    return write_png(frame.image), points


def _backdrop(frame: Frame) -> Made:
    """A wall in soft evening light: nobody there."""
    width, height = frame.image.size
    y, x = np.mgrid[:height, :width] / max(width, height)
    light = 0.6 + 0.3 * np.exp(-((x - 0.3) ** 2 + (y - 0.2) ** 2) / 0.1) - 0.25 * y
    colour = light[..., None] * np.array([235.0, 205.0, 170.0])
    return write_png(Image.fromarray(np.uint8(np.clip(colour, 0, 255)))), None


def _distant(frame: Frame) -> Made:
    """The whole frame at a tenth of its size, in the middle of an empty one."""
    width, height = frame.image.size
    small = frame.image.resize((width // 10, height // 10), Image.Resampling.LANCZOS)
    corner = np.array([(width - small.width) // 2, (height - small.height) // 2])
    canvas = Image.new("RGB", frame.image.size, frame.image.getpixel((0, 0)))
    canvas.paste(small, tuple(corner.tolist()))
    scale = np.array(small.size) / frame.image.size
    return write_png(canvas), (frame.landmarks + 0.5) * scale - 0.5 + corner


def _outside(frame: Frame) -> Made:
    """Only what is on one side of the nose: the larger side of the frame."""
    width, height = frame.image.size
    nose = round(float(frame.landmarks[2, 0]))
    left, right = (0, nose - 12) if nose > width - nose else (nose + 12, width)
    return write_png(frame.image.crop((left, 0, right, height))), frame.landmarks - [left, 0]


_WEB_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head><body>Sign in to download.</body></html>\n"
)
_NOISE = np.random.Generator(np.random.PCG64(20)).bytes(4096)
SPOILED: dict[str, Spoiled] = {
    "zero-bytes.jpg": Spoiled("empty", _unreadable(b"")),
    "web-page.jpg": Spoiled("not_an_image", _unreadable(_WEB_PAGE)),
    "random-bytes.png": Spoiled("not_an_image", _unreadable(_NOISE)),
    "truncated-jpeg.jpg": Spoiled("truncated", lambda frame: (_half(write_jpeg(frame.image)), frame.landmarks)),
    "truncated-png.png": Spoiled("truncated", lambda frame: (_half(write_png(frame.image)), frame.landmarks)),
    "decompression-bomb.png": Spoiled(
        "too_many_pixels", _unreadable(assemble_png(20_000, 20_000, depth=8, colour_type=2, rows=bytes(1000)))
    ),
    "hundred-megapixels.png": Spoiled(
        "too_many_pixels",
        lambda frame: (assemble_png(10_000, 10_000, depth=1, colour_type=0, rows=bytes(12_510_000)), frame.landmarks),
    ),
    "no-face.png": Spoiled("no_face", _backdrop),
    "coincident-eyes.png": Spoiled("degenerate_landmarks", lambda frame: _with_landmarks(frame, 1, frame.landmarks[0])),
    "missing-landmark.png": Spoiled("degenerate_landmarks", lambda frame: _with_landmarks(frame, 3, np.nan)),
    "tiny-face.png": Spoiled("tiny_face", _distant),
    "outside-the-frame.png": Spoiled("out_of_frame", _outside),
}
