import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.storage.images import ImageError, decode_image, encode_png, image_value, to_tensor, to_uint8

LIMIT = 64_000_000
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(width: int, height: int, rows: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(bits: int, kind: int) -> bytes:
    """Return a TIFF of 4 x 4 samples, in one strip at the end; ``kind`` is its SampleFormat."""
    tags = {256: 4, 257: 4, 258: bits, 259: 1, 262: 1, 273: 134, 277: 1, 278: 4, 279: 2 * bits, 339: kind}
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"MM\0*" + struct.pack(">IH", 8, len(tags)) + entries + bytes(4) + bytes(2 * bits)


JPEG, PNG = encode(PICTURE, "JPEG"), encode(PICTURE, "PNG")
PROGRESSIVE = encode(PICTURE, "JPEG", progressive=True)
BAD = {
    "zero bytes": (b"", "empty"),
    "page saved as jpg": (b"<!DOCTYPE html><html></html>", "not_an_image"),
    "4 kB of zeros": (bytes(4096), "not_an_image"),
    "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not_an_image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not_an_image"),
    "jpeg cut at 10 bytes": (JPEG[:10], "truncated"),
    "jpeg cut in half": (JPEG[: len(JPEG) // 2], "truncated"),
    "jpeg without its last 2 bytes": (JPEG[:-2], "truncated"),
    "progressive jpeg cut": (PROGRESSIVE[: len(PROGRESSIVE) // 2], "truncated"),
    "png cut in half": (PNG[: len(PNG) // 2], "truncated"),
    "png cut in its header": (PNG[:40], "truncated"),
    "png with a flipped bit": (PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:], "truncated"),
    "png with too few rows": (png_of(8, 8, b"\0" * 10), "truncated"),
    "png of no size": (png_of(0, 0), "truncated"),
    "gif cut": (encode(PICTURE.quantize(), "GIF")[:200], "truncated"),
    "webp cut": (encode(PICTURE, "WEBP")[:200], "truncated"),
    "bomb beyond Pillow's limit": (png_of(20_000, 20_000), "too_many_pixels"),
    "bomb beyond ours": (png_of(10_000, 10_000), "too_many_pixels"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(64), "unsupported"),
    "lab tiff": (encode(Image.new("LAB", (4, 4)), "TIFF"), "unsupported"),
    "32-bit tiff": (encode(Image.new("I", (4, 4), 70_000), "TIFF"), "unsupported"),
    "64-bit float tiff": (tiff(64, 3), "unsupported"),
    "64-bit float tiff cut short": (tiff(64, 3)[:-1], "truncated"),
    "float beyond [0, 1]": (encode(Image.new("F", (4, 4), 255.0), "TIFF"), "unsupported"),
    "float NaN": (encode(Image.new("F", (4, 4), float("nan")), "TIFF"), "unsupported"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes_get_their_status_and_one_line(name: str) -> None:
    data, status = BAD[name]
    with pytest.raises(ImageError) as caught:
        decode_image(data, LIMIT)
    assert caught.value.status == status
    assert caught.value.reason and "\n" not in caught.value.reason


COLOURS = {
    "L": (Image.new("L", (4, 3), 100), "PNG", (100, 100, 100)),
    "1": (Image.new("1", (4, 3), 1), "PNG", (255, 255, 255)),
    "P": (Image.new("RGB", (4, 3), (10, 200, 30)).quantize(), "PNG", (10, 200, 30)),
    "RGBA over white": (Image.new("RGBA", (4, 3), (0, 0, 0, 51)), "PNG", (204, 204, 204)),
    "LA over white": (Image.new("LA", (4, 3), (0, 0)), "PNG", (255, 255, 255)),
    "16-bit grey": (Image.fromarray(np.full((3, 4), 40_000, np.uint16)), "PNG", (156, 156, 156)),
    "float grey": (Image.new("F", (4, 3), 0.5), "TIFF", (128, 128, 128)),
    "CMYK": (Image.new("CMYK", (4, 3), (255, 0, 0, 0)), "TIFF", (0, 255, 255)),
}


@pytest.mark.parametrize("name", COLOURS)
def test_every_mode_becomes_rgb_by_the_stated_rule(name: str) -> None:
    image, kind, colour = COLOURS[name]
    decoded = decode_image(encode(image, kind), LIMIT)
    assert (decoded.mode, decoded.size) == ("RGB", (4, 3))
    assert np.abs(np.asarray(decoded).astype(int) - colour).max() <= 1


def test_palette_transparency_is_white() -> None:
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([9, 9, 9])
    assert np.asarray(decode_image(encode(palette, "PNG", transparency=0), LIMIT)).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = PIXELS
    upright = {  # by where the standard says that row 0 and column 0 belong
        1: stored,  # top, left
        2: stored[:, ::-1],  # top, right
        3: stored[::-1, ::-1],  # bottom, right
        4: stored[::-1],  # bottom, left
        5: stored.transpose(1, 0, 2),  # left, top
        6: stored.transpose(1, 0, 2)[:, ::-1],  # right, top
        7: stored.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
        8: stored.transpose(1, 0, 2)[::-1],  # left, bottom
    }
    assert np.array_equal(decode_image(encode(PICTURE, "PNG", exif=exif), LIMIT), upright[orientation])


def test_broken_exif_does_not_cost_the_picture() -> None:
    data = encode(PICTURE, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode_image(data, LIMIT).size == (48, 32)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF", "PNG", "TIFF"])
def test_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    red, _green, blue = np.asarray(decode_image(data, LIMIT))[4, 4]
    assert red > 240 and blue < 15


@pytest.mark.parametrize("size", [(1, 1), (10_000, 1), (1, 10_000)])
def test_odd_sizes_decode(size: tuple[int, int]) -> None:
    assert decode_image(encode(Image.new("RGB", size), "PNG"), LIMIT).size == size


def test_limit_is_inclusive() -> None:
    assert decode_image(PNG, 32 * 48).size == (48, 32)
    with pytest.raises(ImageError, match="too_many_pixels"):
        decode_image(PNG, 32 * 48 - 1)


def test_png_keeps_every_pixel_and_its_bytes_are_stable() -> None:
    assert np.array_equal(decode_image(encode_png(PIXELS), LIMIT), PIXELS)
    assert encode_png(PIXELS) == encode_png(PIXELS[:, ::-1][:, ::-1])
    assert image_value(b"x", "a.png") == {"bytes": b"x", "path": "a.png"}


def test_tensor_and_back_is_exact_for_every_value() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    tensor = to_tensor([Image.fromarray(ramp), ramp])
    assert tensor.shape == (2, 3, 16, 16) and tensor.dtype == torch.float32
    assert (tensor.min(), tensor.max()) == (-1, 1)
    assert np.array_equal(to_uint8(tensor), np.stack([ramp, ramp]))


def test_to_uint8_takes_batches_only() -> None:
    with pytest.raises(ValueError, match=r"images are \[3, 4, 5\]: give a batch \[B, 3, H, W\]"):
        to_uint8(torch.zeros(3, 4, 5))


def test_to_uint8_clamps() -> None:
    assert to_uint8(torch.tensor([-7.0, 7.0, 0.0]).view(1, 3, 1, 1)).ravel().tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4), np.uint8),
        Image.new("RGBA", (4, 4)),
        Image.new("L", (4, 4)),
    ],
    ids=["floating", "16 bits", "flat", "RGBA", "grey"],
)
def test_what_is_no_picture_in_8_bits_of_rgb_is_not_made_a_tensor(image: Image.Image | np.ndarray) -> None:
    with pytest.raises(ValueError, match="convert them to RGB, uint8"):
        to_tensor([image])
