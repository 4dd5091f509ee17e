"""What MLflow shows of rows: pictures in cells under their names."""

import base64
import io

import numpy as np
from PIL import Image

from tasks.pictures import HEADER, SMALL_CELL, draw_grid


def address(colour: tuple[int, int, int]) -> str:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def test_a_row_has_its_pictures_side_by_side_in_their_order_and_fits_into_a_description() -> None:
    colours = [(50 * i, 0, 100) for i in range(5)]
    line = {f"picture {i}": address(colour) for i, colour in enumerate(colours)}
    row = draw_grid([line], SMALL_CELL)
    assert row.size == (5 * SMALL_CELL, HEADER + SMALL_CELL) and row.height < 100
    pixels = np.asarray(row)
    for i, colour in enumerate(colours):
        assert tuple(pixels[HEADER + SMALL_CELL // 2, i * SMALL_CELL + SMALL_CELL // 2]) == colour
    missing = np.asarray(draw_grid([line, {"picture 1": line["picture 1"]}], SMALL_CELL))
    assert tuple(missing[-1, 0]) == (255, 255, 255) and tuple(missing[-1, SMALL_CELL]) == colours[1]
