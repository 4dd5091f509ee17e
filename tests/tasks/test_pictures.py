"""What MLflow shows of rows: panels that can be seen at 219 pixels, the width at which its page shows pictures."""

import base64
import io

import numpy as np
from PIL import Image

from tasks.pictures import CELL, HEADER, draw_panel


def address(colour: tuple[int, int, int]) -> str:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def test_a_panel_has_three_pictures_side_by_side_in_their_order() -> None:
    colours = [(50 * i, 0, 100) for i in range(5)]
    panel = draw_panel({f"picture {i}": address(colour) for i, colour in enumerate(colours)})
    assert panel.size == (3 * CELL, 2 * (HEADER + CELL)) and 219 / panel.width * CELL > 64
    pixels = np.asarray(panel)
    for i, colour in enumerate(colours):
        y, x = divmod(i, 3)
        assert tuple(pixels[y * (HEADER + CELL) + HEADER + CELL // 2, x * CELL + CELL // 2]) == colour
    assert draw_panel({"one": address((1, 2, 3))}).size == (CELL, HEADER + CELL)
