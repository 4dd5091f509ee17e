"""The formats of stored pictures: what is kept of them, and what cannot be asked for."""

import numpy as np
import pytest
from PIL import Image

from gan_core.errors import ParamsError
from gan_core.params import check_params
from gan_core.storage.formats import PNG, WEBP_SIDE, PictureFormat
from gan_core.storage.images import decode_image, encode_png

WEBP, JPEG = PictureFormat("webp"), PictureFormat("jpeg", 95)


def picture(height: int = 40, width: int = 56) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data, 1 << 24))


def kind(data: bytes) -> str:
    return {b"\x89P": "png", b"RI": "webp", b"\xff\xd8": "jpeg"}[data[:2]]


def test_png_is_what_it_always_was() -> None:
    assert PNG.encode(picture()) == encode_png(picture()) and PNG.identity() == {}
    assert PNG.cell(picture(), "a/b") == {"bytes": encode_png(picture()), "path": "a/b.png"}


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (40, 56)])
def test_webp_keeps_every_pixel(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    cell = WEBP.cell(pixels, "a")
    assert kind(cell["bytes"]) == "webp" and cell["path"] == "a.webp" and (decoded(cell["bytes"]) == pixels).all()


def test_jpeg_loses_little_and_less_at_higher_quality() -> None:
    pixels = picture()
    cells = {q: PictureFormat("jpeg", q).cell(pixels, "a") for q in (40, 95)}
    lost = {q: np.abs(decoded(cell["bytes"]).astype(int) - pixels).mean() for q, cell in cells.items()}
    assert lost[95] < 1.5 < lost[40] and len(cells[40]["bytes"]) < len(cells[95]["bytes"]) < len(encode_png(pixels))
    assert cells[95]["path"] == "a.jpg" and kind(cells[95]["bytes"]) == "jpeg"


def test_colours_of_a_jpeg_have_the_resolution_of_the_picture() -> None:
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    assert np.abs(decoded(JPEG.encode(stripes)).astype(int) - stripes).max() < 30


def test_a_picture_too_long_for_webp_is_a_png() -> None:
    assert kind(WEBP.encode(np.zeros((1, WEBP_SIDE, 3), np.uint8))) == "webp"
    assert kind(WEBP.encode(np.zeros((1, WEBP_SIDE + 1, 3), np.uint8))) == "png"


def test_arrays_of_any_layout_are_taken() -> None:
    turned = picture().transpose(1, 0, 2)
    assert (decoded(WEBP.encode(turned)) == turned).all() and kind(JPEG.encode(turned)) == "jpeg"


def test_the_identity_names_the_format_and_the_quality_where_it_counts() -> None:
    assert WEBP.identity() == PictureFormat("webp", 10).identity() == {"stored": "webp"}
    assert JPEG.identity() == {"stored": "jpeg 95"} != PictureFormat("jpeg", 94).identity()


@pytest.mark.parametrize("section", [{"format": "gif"}, {"quality": 0}, {"quality": 101}, {"format": None}])
def test_other_formats_and_qualities_are_refused(section: dict[str, object]) -> None:
    with pytest.raises(ParamsError, match=rf"^params: pictures.{next(iter(section))}"):
        check_params({"pictures": section})
