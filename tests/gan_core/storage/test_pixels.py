"""Pixels are right or rejected: modes x bit depths x transparency x profile x rotation, by an independent decoder."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from gan_core.storage.images import ImageError, decode_image
from tests.gan_core.storage.png_by_hand import Pixels, decode_png, encode_png_file, pack, with_chunk
from tests.gan_core.storage.tiff_by_hand import encode_tiff

LIMIT = 10_000
HEIGHT, WIDTH = 5, 7
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
PNGS = [(kind, depth) for kind, depths in DEPTHS.items() for depth in depths]
PROFILE = zlib.compress(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
ROTATED = {  # the standard says where row 0 and column 0 of what is stored belong
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


def values(depth: int, channels: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 1 << depth, (HEIGHT, WIDTH, channels))


def decoded(data: bytes) -> Pixels:
    return np.asarray(decode_image(data, LIMIT)).astype(int)


def differ(data: bytes, expected: Pixels) -> float:
    return float(np.abs(decoded(data) - expected).max())


def a_third(pixels: Pixels) -> Pixels:
    """Return the colour of the pixel that is nearest to a third of white: neither black nor white, if there is one."""
    return pixels.reshape(-1, pixels.shape[2])[np.abs(pixels.sum(axis=2) - pixels.sum(axis=2).max() / 3).argmin()]


def a_png(kind: int, depth: int, transparent: bool = False, extra: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    pixels = values(depth, CHANNELS[kind])
    chunks = list(extra)
    if kind == 3:
        chunks.append((b"PLTE", np.random.default_rng(1).integers(0, 256, (1 << depth, 3)).astype(np.uint8).tobytes()))
    if transparent and kind == 3:
        chunks.append((b"tRNS", bytes([0, 100])))
    elif transparent:
        chunks.append((b"tRNS", b"".join(struct.pack(">H", value) for value in a_third(pixels))))
    return encode_png_file(pixels, depth, kind, chunks)


def tolerance(kind: int, depth: int) -> int:
    """Of 16 bits the high byte is taken: a level is lost in the colour, and another in the alpha channel."""
    return 2 if (kind, depth) == (6, 16) else 1


@pytest.mark.parametrize(("kind", "depth"), PNGS)
def test_png_of_every_colour_type_and_depth(kind: int, depth: int) -> None:
    data = a_png(kind, depth)
    assert differ(data, decode_png(data)) <= tolerance(kind, depth)


@pytest.mark.parametrize(("kind", "depth"), [found for found in PNGS if found[0] in (0, 2, 3) and found != (2, 16)])
def test_png_with_a_transparent_colour(kind: int, depth: int) -> None:
    data = a_png(kind, depth, transparent=True)
    expected = decode_png(data)
    assert differ(data, expected) <= 1
    assert np.abs(decode_png(a_png(kind, depth)) - expected).max() > 0  # the transparency changes the picture


def test_16_bit_colour_with_a_transparent_colour_is_rejected() -> None:
    with pytest.raises(ImageError, match="16-bit colour with a transparent colour") as caught:
        decoded(a_png(2, 16, transparent=True))
    assert caught.value.status == "unsupported"


@pytest.mark.parametrize(("kind", "depth"), PNGS)
def test_png_with_a_profile_and_every_rotation(kind: int, depth: int) -> None:
    plain = decode_png(a_png(kind, depth))
    for orientation, turned in ROTATED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        extra = ((b"iCCP", b"sRGB\0\0" + PROFILE), (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
        assert differ(a_png(kind, depth, extra=extra), turned(plain)) <= tolerance(kind, depth), orientation


def test_the_decoder_of_these_tests_reads_what_pillow_writes() -> None:
    photograph = np.add.outer(np.arange(40) * 3, np.arange(30) * 2).astype(np.uint8)  # smooth: Pillow filters the rows
    for mode in ("L", "LA", "RGB", "RGBA", "P", "1"):
        image = Image.fromarray(photograph).convert("RGB").convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        expected = np.asarray(image.convert("RGB"))
        assert np.abs(decode_png(buffer.getvalue()) - expected).max() == 0, mode


GREYS = [(1, 0), (1, 1), (2, 0), (2, 1), (4, 0), (4, 1), (8, 0), (8, 1), (12, 1), (16, 0), (16, 1)]
"""Bits, and photometric interpretation: 0 counts from white to black, 1 from black to white."""


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("bits", "photometric"), GREYS)
def test_tiff_in_grey_is_right_or_rejected(bits: int, photometric: int, order: str) -> None:
    pixels = values(bits, 1)
    data = encode_tiff(pack(pixels, bits, order), (WIDTH, HEIGHT), [bits], photometric, order=order)
    grey = pixels / ((1 << bits) - 1) * 255
    expected = (255 - grey if photometric == 0 else grey).repeat(3, 2)
    if order == ">" and (bits, photometric) in ((12, 1), (16, 0)):  # Pillow reads them in the other order only
        with pytest.raises(ImageError):
            decoded(data)
    else:
        assert differ(data, expected) <= 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("alpha", [None, 0, 1, 2])
def test_tiff_in_colour(bits: int, alpha: int | None, order: str) -> None:
    """The extra sample is none, unspecified (ignored), premultiplied (three roundings), or an alpha channel."""
    top = (1 << bits) - 1
    colour, cover = values(bits, 3), values(bits, 1, seed=1)
    stored = colour * cover // top if alpha == 1 else colour
    samples = stored if alpha is None else np.concatenate([stored, cover], axis=2)
    data = encode_tiff(pack(samples, bits, order), (WIDTH, HEIGHT), [bits] * samples.shape[2], 2, alpha, order=order)
    opacity = cover / top if alpha in (1, 2) else 1.0
    assert differ(data, (colour / top * opacity + 1 - opacity) * 255) <= 3


def test_tiff_with_a_palette() -> None:
    pixels, colours = values(4, 1), np.random.default_rng(1).integers(0, 256, (16, 3))
    palette = tuple((colours.T.ravel() * 257).tolist())
    data = encode_tiff(pack(pixels, 4), (WIDTH, HEIGHT), [4], 3, palette=palette)
    assert differ(data, colours[pixels[..., 0]]) == 0


@pytest.mark.parametrize("photometric", [0, 1])
def test_float_tiff(photometric: int) -> None:
    shares = np.random.default_rng(0).random((HEIGHT, WIDTH)).astype(np.float32)
    data = encode_tiff(shares.tobytes(), (WIDTH, HEIGHT), [32], photometric, sample_format=3)
    expected = 255 * (1 - shares if photometric == 0 else shares)
    assert differ(data, expected[..., None].repeat(3, 2)) <= 0.51


WITHOUT_A_WHITE = {
    "32 bits": ("<u4", 1, 1),
    "32 bits, signed": ("<i4", 1, 2),
    "16 bits, signed": ("<i2", 1, 2),
    "8 bits, signed": ("<i1", 1, 2),
    "32 bits, big-endian": (">i4", 1, 2),
    "float beyond 1": ("<f4", 1, 3),
    "64-bit float": ("<f8", 1, 3),
    "LAB": ("<u1", 8, 1),
}


@pytest.mark.parametrize("name", WITHOUT_A_WHITE)
def test_pixels_without_a_stated_white_are_rejected(name: str) -> None:
    """Whatever the values are: in a picture of few bits too, which would otherwise be black or white."""
    kind, photometric, sample_format = WITHOUT_A_WHITE[name]
    samples = 3 if photometric == 8 else 1
    for top in (100, 2, 120):
        pixels = (np.arange(HEIGHT * WIDTH * samples) % top).astype(kind)
        bits = [8 * pixels.itemsize] * samples
        order = ">" if kind[0] == ">" else "<"
        size, form = (WIDTH, HEIGHT), sample_format
        data = encode_tiff(pixels.tobytes(), size, bits, photometric, order=order, sample_format=form)
        if sample_format == 3 and top == 2 and pixels.itemsize == 4:
            continue  # 0.0 and 1.0 are a picture
        with pytest.raises(ImageError) as caught:
            decoded(data)
        assert caught.value.status in ("unsupported", "truncated") and caught.value.reason


@pytest.mark.parametrize(("maxval", "kind"), list(itertools.product((1, 15, 255, 1000, 65535), (b"P5", b"P6"))))
def test_pnm_of_every_maxval(maxval: int, kind: bytes) -> None:
    pixels = np.random.default_rng(0).integers(0, maxval + 1, (HEIGHT, WIDTH, 1 if kind == b"P5" else 3))
    data = kind + b" %d %d %d\n" % (WIDTH, HEIGHT, maxval) + pixels.astype(">u2" if maxval > 255 else "u1").tobytes()
    assert differ(data, np.broadcast_to(pixels / maxval * 255, (HEIGHT, WIDTH, 3))) <= 1


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(colour: tuple[int, ...], mode: str) -> Image.Image:
    return Image.new(mode, (16, 12), colour)


FLAT = {
    "CMYK JPEG": (saved(flat((50, 100, 150, 30), "CMYK"), "JPEG", quality=100), (181, 137, 93), 3),
    "CMYK TIFF": (saved(flat((50, 100, 150, 30), "CMYK"), "TIFF"), (181, 137, 93), 1),
    "YCbCr TIFF": (saved(flat((76, 85, 255), "YCbCr"), "TIFF"), (254, 0, 0), 2),
    "grey JPEG": (saved(Image.new("L", (16, 12), 90), "JPEG", quality=100), (90, 90, 90), 1),
    "grey GIF": (saved(Image.new("L", (16, 12), 90), "GIF"), (90, 90, 90), 0),
    "grey GIF, transparent": (saved(Image.new("L", (16, 12), 90), "GIF", transparency=90), (255, 255, 255), 0),
    "palette GIF, transparent": (saved(Image.new("P", (16, 12), 3), "GIF", transparency=3), (255, 255, 255), 0),
    "WebP with alpha": (saved(flat((200, 0, 0, 128), "RGBA"), "WEBP", lossless=True), (227, 127, 127), 2),
    "AVIF with alpha": (saved(flat((200, 0, 0, 128), "RGBA"), "AVIF", quality=100), (227, 127, 127), 4),
    "JPEG 2000 with alpha": (saved(flat((200, 0, 0, 128), "RGBA"), "JPEG2000"), (227, 127, 127), 2),
    "JPEG 2000, 16-bit grey": (
        saved(Image.fromarray(np.full((12, 16), 40_000, np.uint16)), "JPEG2000"),
        (156, 156, 156),
        1,
    ),
    "BMP, 32 bits": (saved(flat((200, 0, 0, 255), "RGBA"), "BMP"), (200, 0, 0), 0),
    "BMP, 1 bit": (saved(Image.new("1", (16, 12), 1), "BMP"), (255, 255, 255), 0),
}


@pytest.mark.parametrize("name", FLAT)
def test_other_formats_keep_their_colour(name: str) -> None:
    data, colour, tolerance = FLAT[name]
    assert differ(data, np.broadcast_to(np.array(colour), (12, 16, 3))) <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", ROTATED)
def test_rotation_in_other_formats(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarters = np.zeros((32, 48, 3), np.uint8)  # large areas, so that no compression moves an edge
    quarters[:16, :24], quarters[:16, 24:], quarters[16:, :24] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    data = saved(Image.fromarray(quarters), kind, exif=exif)
    found, expected = decoded(data), ROTATED[orientation](quarters)
    assert found.shape == expected.shape
    assert np.abs(found[4::8, 4::8] - expected[4::8, 4::8].astype(int)).max() < 30


BIG = zlib.compress(bytes(8 << 20), 9)
LARGE = {
    "text": (b"zTXt", b"Raw profile type exif\0\0" + BIG),
    "XMP": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BIG),
    "profile": (b"iCCP", b"camera\0\0" + BIG),
    "plain text": (b"tEXt", b"Comment\0" + b"x" * (8 << 20)),
    "EXIF": (b"eXIf", b"II*\0\x08\0\0\0\0\0\0\0\0\0" + bytes(8 << 20)),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("place", ["before the pixels", "after the pixels"])
def test_large_metadata_costs_no_picture(name: str, place: str) -> None:
    data = a_png(2, 8)
    assert differ(with_chunk(data, *LARGE[name], last=place.startswith("after")), decode_png(data)) == 0


def test_metadata_that_expands_without_end_is_rejected() -> None:
    bomb = zlib.compress(bytes(100 << 20), 9)
    for chunk in ((b"zTXt", b"Comment\0\0" + bomb), (b"iCCP", b"camera\0\0" + bomb)):
        with pytest.raises(ImageError, match="too large"):
            decoded(with_chunk(a_png(2, 8), *chunk))
