"""Decode untrusted image bytes to RGB pixels and tensors, and encode pixels as PNG.

Rules: the EXIF rotation is applied. Animations and multi-page files yield their first frame. Colours are converted as
``gan_core.storage.rgb`` says. Truncated files are rejected, never padded.
"""

import io
import re
import struct
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import TypedDict

import numpy as np
import torch
from PIL import Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from gan_core.device import fetch, place_array
from gan_core.errors import UserError
from gan_core.rows import Row
from gan_core.storage.rgb import to_rgb, to_values

MAX_PIXELS = 64_000_000
"""Limit for images whose size no parameter limits; it bounds the memory of decoding (3 bytes a pixel: 192 MB)."""
MAX_METADATA = 64 << 20
"""Bytes to which a PNG's text or profile may expand. Pillow's own 1 MiB rejects what cameras and editors write."""

Convert = Callable[[Image.Image, bytes], Image.Image]
"""Gives a loaded image and its file another mode."""
_ORIENTATION = 0x0112
_ROTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")  # EPS would run Ghostscript
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n": "PNG",
    b"GIF8": "GIF",
    b"RIFF": "WEBP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP": "JPEG2000",
}
_TIFF_SAMPLES = {1: "whole numbers", 2: "whole numbers with a sign", 3: "floats"}
_CONTAINERS = {
    b"ftyp" + brand: "HEIC" for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
} | {b"ftypavif": "AVIF"}


_PILLOW = r"PIL\b"
_FROM_PILLOW = ("ignore", None, Warning, re.compile(_PILLOW), 0)


class ImageCell(TypedDict):
    """The value of an image column, as HF ``datasets`` stores it: an encoded image, and a file name for it."""

    bytes: bytes
    path: str


class ImageError(UserError):
    """Bytes that can't be decoded; ``status`` is empty, not_an_image, truncated, too_many_pixels or unsupported."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


def decode_image(data: bytes | None, max_pixels: int, convert: Convert = to_rgb) -> Image.Image:
    """Decode ``data`` to an upright image, RGB if ``convert`` isn't another; raises ``ImageError`` if that fails.

    The size in the header is compared with ``max_pixels`` before any pixel is decoded. Pillow's own limit (179 million
    pixels unless the program raised it) applies as well.
    """
    if not data:
        raise ImageError("empty", "there are no bytes")
    _ignore_warnings()
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError("too_many_pixels", f"{width}x{height} is more than {max_pixels} pixels")
    return _load(image, data, convert)


def decode_grey(data: bytes | None, max_pixels: int) -> np.ndarray | None:
    """Decode ``data`` to grey values ``[H, W]`` as they are stored, of 8 or 16 bits; None if it has colours.

    Raises ``ImageError`` as ``decode_image`` does.
    """
    pixels = np.asarray(decode_image(data, max_pixels, to_values))
    if pixels.ndim == 2:
        return pixels
    return None if (pixels != pixels[..., :1]).any() else pixels[..., 0]


def load_pictures(row: Row, columns: Sequence[str], max_pixels: int = MAX_PIXELS) -> Row:
    """Return ``row`` with the image cells of ``columns`` decoded to ``uint8 [H, W, 3]``; raises ``ImageError``."""
    cells = {name: (row[name] or {}).get("bytes") for name in columns}
    return row | {name: np.asarray(decode_image(data, max_pixels)) for name, data in cells.items()}


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode ``uint8 [H, W, 3]`` as PNG. Level 1 of zlib is several times faster and costs a few per cent in size."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def image_value(png: bytes, path: str) -> ImageCell:
    """Return the value of an image cell."""
    return {"bytes": png, "path": path}


def resize_rounded(image: Image.Image, shape: tuple[int, int]) -> Image.Image:
    """Resample an RGB image bilinearly to ``shape`` (height and width), in 8 bits, as the loaders of pSp and e4e do."""
    height, width = shape
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)


def to_tensor(images: Sequence[Image.Image | np.ndarray]) -> Tensor:
    """Convert RGB images of one size, PIL or ``uint8 [H, W, 3]``, to ``[B, 3, H, W]`` float32 in [-1, 1].

    The tensor is on the device of this context (``gan_core.device``). Raises ``ValueError`` for images of several
    sizes, with other channels, or of other numbers.
    """
    stack = np.stack([np.asarray(image) for image in images])
    if stack.dtype != np.uint8 or stack.shape[3:] != (3,):
        raise ValueError(f"images of {stack.dtype} {list(stack.shape[1:])}: convert them to RGB, uint8 [H, W, 3]")
    return place_array(stack).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def stack_pictures(rows: Sequence[Row], column: str) -> Tensor:
    """Convert a column of ``load_pictures``, of one size, to ``[B, 3, H, W]`` as ``to_tensor`` does."""
    return to_tensor([row[column] for row in rows])


def to_uint8(images: Tensor) -> np.ndarray:
    """Convert ``[B, 3, H, W]`` around [-1, 1] to ``uint8 [B, H, W, 3]``: ``clamp(x * 127.5 + 128, 0, 255)``, truncated.

    This is the rounding of StyleGAN2-ADA. It restores exactly the pixels that were given to ``to_tensor``. Raises
    ``ValueError`` for anything but a batch.
    """
    if images.ndim != 4:
        raise ValueError(f"images are {list(images.shape)}: give a batch [B, 3, H, W], of one image `image[None]`")
    scaled = images.detach().float().mul(127.5).add(128).clamp(0, 255)
    return np.ascontiguousarray(fetch(scaled.permute(0, 2, 3, 1).to(torch.uint8)))


def _ignore_warnings() -> None:
    """Ignore what Pillow warns of: what matters is refused. For good, as no two threads can do it for a while only."""
    if _FROM_PILLOW not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW)


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_prepare_pillow())
    except Image.DecompressionBombError:
        raise ImageError("too_many_pixels", "the header claims more pixels than Pillow will ever decode") from None
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except MemoryError:
        raise
    except Exception as error:
        raise _damaged(error) from None


@cache
def _prepare_pillow() -> list[str]:
    """Allow large metadata, for which Pillow has no argument, and return the formats that can be read here."""
    Image.init()
    PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, MAX_METADATA)
    return [name for name in _FORMATS if name in Image.OPEN]


def _unidentified(data: bytes) -> ImageError:
    name = _CONTAINERS.get(data[4:12]) or next((n for s, n in _SIGNATURES.items() if data.startswith(s)), None)
    if name is None:
        return ImageError("not_an_image", f"it begins with {data[:12]!r}; known formats: {', '.join(_FORMATS)}")
    if name not in _prepare_pillow():
        return ImageError("unsupported", f"{name} can't be read here: convert it to JPEG or PNG")
    if name == "TIFF" and (samples := _whole_tiff(data)):
        return ImageError("unsupported", f"TIFF of {samples} can't be read here: convert it to 8 or 16 bits")
    return ImageError("truncated", f"it begins like {name}, but ends early, is damaged, or is of a rare kind")


def _whole_tiff(data: bytes) -> str:
    """Describe the samples of a TIFF whose picture data is all there; an empty string for any other."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        with io.BytesIO(data) as file:
            file.seek(tags.next)
            tags.load(file)
        starts, sizes = tags[TiffImagePlugin.STRIPOFFSETS], tags[TiffImagePlugin.STRIPBYTECOUNTS]
        if max(start + size for start, size in zip(starts, sizes, strict=True)) > len(data):
            return ""
        bits, kinds = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)), tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
    except Exception:  # whatever a damaged directory makes of it
        return ""
    return f"{bits[0]}-bit {_TIFF_SAMPLES.get(kinds[0], 'samples')}"


def _load(image: Image.Image, data: bytes, convert: Convert) -> Image.Image:
    try:
        image.load()
        rotation = _rotation(image)
        colours = convert(image, data)
        return colours if rotation is None else colours.transpose(rotation)
    except MemoryError:
        raise
    except Exception as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> ImageError:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError | EOFError | struct.error | IndexError | SyntaxError):
        return ImageError("truncated", f"the image data ends early or is damaged ({text})")
    return ImageError("unsupported", text)


def _rotation(image: Image.Image) -> Image.Transpose | None:
    try:
        return _ROTATIONS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF is optional: an image with a broken EXIF block is still used
        return None
