"""What MLflow shows of rows: pictures in cells under their names."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tasks.pictures import LINE, SMALL_CELL, _wrap, draw_grid


def address(colour: tuple[int, int, int]) -> str:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def test_a_row_has_its_pictures_side_by_side_in_their_order_and_fits_into_a_description() -> None:
    colours = [(50 * i, 0, 100) for i in range(5)]
    header = 2 + LINE
    line = {f"picture {i}": address(colour) for i, colour in enumerate(colours)}
    row = draw_grid([line], SMALL_CELL)
    assert row.size == (5 * SMALL_CELL, header + SMALL_CELL) and row.height < 100
    pixels = np.asarray(row)
    for i, colour in enumerate(colours):
        assert tuple(pixels[header + SMALL_CELL // 2, i * SMALL_CELL + SMALL_CELL // 2]) == colour
    missing = np.asarray(draw_grid([line, {"picture 1": line["picture 1"]}], SMALL_CELL))
    assert tuple(missing[-1, 0]) == (255, 255, 255) and tuple(missing[-1, SMALL_CELL]) == colours[1]


def test_names_that_need_two_lines_fit_into_a_description_too() -> None:
    row = draw_grid([{"source": address((0, 0, 0)), "hair_length@+1.5": address((9, 9, 9))}], SMALL_CELL)
    assert row.size == (2 * SMALL_CELL, 2 + 2 * LINE + SMALL_CELL) and row.height < 100


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("smile@+1", ["smile@+1"]),
        ("beard@+1.25", ["beard", "@+1.25"]),
        ("hair_length@+1.5", ["hair_lengt", "h@+1.5"]),
        ("a_name_of_many_letters@-12", ["a_name_of_", "many_…@-12"]),
        ("reconstruction", ["reconstruc", "tion"]),
    ],
)
def test_a_long_name_keeps_its_strength(name: str, lines: list[str]) -> None:
    assert _wrap(name, 10) == lines
