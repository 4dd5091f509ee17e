"""The formats in which pictures are stored: PNG and WebP without loss, JPEG with a quality."""

import io
import os
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from gan_core.storage.images import ImageCell, encode_png, image_value

WEBP_SIDE = 16383
"""The longest side of a WebP file in pixels; longer pictures, such as panoramas, are stored as PNG."""


@dataclass(frozen=True)
class PictureFormat:
    """How the pictures of a stage are stored: ``name`` is png, webp (without loss) or jpeg with ``quality``."""

    name: str = "png"
    quality: int = 95

    ENDINGS: ClassVar[dict[str, str]] = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}

    def encode(self, pixels: np.ndarray) -> bytes:
        """Encode ``uint8 [H, W, 3]``. Other threads go on meanwhile."""
        if self.name == "jpeg":
            return _encode_jpeg(pixels, self.quality)
        return encode_webp(pixels) if self.name == "webp" and max(pixels.shape) <= WEBP_SIDE else encode_png(pixels)

    def cell(self, pixels: np.ndarray, key: str) -> ImageCell:
        """Return the value of an image cell of the row ``key`` for ``uint8 [H, W, 3]``."""
        return image_value(self.encode(pixels), f"{key}{self.ENDINGS[self.name]}")

    def identity(self) -> dict[str, Any]:
        """What a stage that stores pictures depends on; nothing for PNG, the only format once."""
        names = {"png": {}, "webp": {"stored": "webp"}, "jpeg": {"stored": f"jpeg {self.quality}"}}
        return dict(names[self.name])


PNG = PictureFormat()


def encode_webp(pixels: np.ndarray) -> bytes:
    """Encode ``uint8 [H, W, 3]`` as WebP without loss, by its fastest method: the next takes four times as long."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "WEBP", lossless=True, method=0, quality=0)
    return buffer.getvalue()


def _encode_jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """Encode as JPEG with colours at full resolution.

    Pillow lets other threads go on only where it writes to a file, so on Linux this is one in memory.
    """
    with os.fdopen(os.memfd_create("jpeg"), "w+b") if sys.platform == "linux" else io.BytesIO() as file:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.save(file, "JPEG", quality=quality, subsampling="4:4:4")
        file.seek(0)
        return file.read()
