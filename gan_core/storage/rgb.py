"""Convert loaded images of every colour mode and bit depth to 8-bit RGB; what has no stated white is refused.

A transparent image is composited on white. 16-bit grey is divided by 257 and 12-bit grey by 4095 / 255, both rounded to
the nearest; of 16-bit colour the high byte is taken. Where a TIFF counts from white to black (``WhiteIsZero``), it is
inverted. Float images must be in [0, 1]. CMYK, palette, grey and 1-bit images are converted by Pillow, and ICC profiles
are ignored: values are taken as sRGB.
"""

import numpy as np
from PIL import Image

BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF. ``PHOTOMETRIC`` 0 is WhiteIsZero, and ``SAMPLE_FORMAT`` 2 means signed integers."""
PNG_DEPTH = 24
"""The place of the bit depth in a PNG file: the first chunk is always IHDR."""

_DIRECT = {"RGB", "L", "1", "CMYK", "YCbCr", "HSV", "RGBX", "P"}


def to_rgb(image: Image.Image, data: bytes) -> Image.Image:
    """Return ``image``, which was loaded from ``data``, as 8-bit RGB; raises ``ValueError`` if its white is unknown."""
    if 2 in _tag(image, SAMPLE_FORMAT):
        raise ValueError("signed integers: convert it to 8 or 16 bits without sign")
    if image.mode == "F":
        return _from_float(image)
    if _is_16_bit_grey(image):
        return _from_16_bit_grey(image)
    if image.mode == "I":
        raise ValueError("32-bit integers, whose white is not stated: convert it to 8 or 16 bits")
    if image.mode in ("1", "L", "RGB") and "transparency" in image.info:
        return _without_colour(image, data)
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode in _DIRECT:
        return image.convert("RGB")
    raise ValueError(f"colour mode {image.mode}")


def to_values(image: Image.Image, data: bytes) -> Image.Image:
    """Return 16-bit grey with its values as they are stored, in mode I, and everything else as ``to_rgb`` does."""
    if _is_16_bit_grey(image) and 2 not in _tag(image, SAMPLE_FORMAT):
        return Image.fromarray(np.asarray(image).astype(np.int32))
    return to_rgb(image, data)


def _tag(image: Image.Image, number: int) -> tuple[int, ...]:
    found = getattr(image, "tag_v2", {}).get(number, ())
    return found if isinstance(found, tuple) else (found,)


def _is_16_bit_grey(image: Image.Image) -> bool:
    """Pillow scales all PGM files of more than 8 bits to 65535 in its mode I, where it keeps 32-bit TIFF files too."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _from_16_bit_grey(image: Image.Image) -> Image.Image:
    stored = np.asarray(image).astype(np.uint32)
    top = 4095 if 12 in _tag(image, BITS) else 65535
    grey = (stored * 255 + top // 2) // top
    if 0 in _tag(image, PHOTOMETRIC):
        grey = 255 - grey
    if "transparency" in image.info:
        grey[stored == image.info["transparency"]] = 255
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _from_float(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a float image must have values in [0, 1]")
    values = 1 - values if 0 in _tag(image, PHOTOMETRIC) else values
    return Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert("RGB")


def _without_colour(image: Image.Image, data: bytes) -> Image.Image:
    """Whiten the one colour that PNG's tRNS names, in the file's own bit depth, where Pillow has scaled the pixels."""
    depth = data[PNG_DEPTH] if image.format == "PNG" else 8
    if depth > 8:
        raise ValueError("16-bit colour with a transparent colour: convert it to 8 bits or to an alpha channel")
    top = (1 << depth) - 1
    named = np.atleast_1d(np.asarray(image.info["transparency"]))
    colour = (named > 0) * 255 if image.mode == "1" else (named & top) * (255 // top)
    pixels = np.array(image.convert("RGB"))
    pixels[(pixels == colour).all(axis=-1)] = 255
    return Image.fromarray(pixels)


def _on_white(image: Image.Image) -> Image.Image:
    opaque = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
