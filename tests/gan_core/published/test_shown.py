"""What is shown of a published file: the options that it was trained with, and what of a picture its encoder sees."""

from pathlib import Path
from typing import Any

import pytest

from gan_core.published.layouts import inspect_checkpoint
from gan_core.published.shown import MOST_OPTIONS, describe_framing, shown_options
from tests.gan_core.published.test_wrappers import write_wrapper


@pytest.mark.parametrize(
    ("size", "drawn", "text"),
    [
        ([192, 256], 512, "the whole picture at 256x192 px, rows 64 to 447 of the generator's 512"),
        ([192, 256], 256, "the whole picture at 256x192 px, rows 32 to 223 of the generator's 256"),
        ([192, 256], None, "the whole picture at 256x192 px"),
        (256, 1024, "the whole picture at 256x256 px"),
    ],
)
def test_an_encoder_says_what_it_sees(size: Any, drawn: int | None, text: str) -> None:
    assert describe_framing(size, drawn) == text


def test_inspect_shows_the_options_and_the_framing_of_a_file(tmp_path: Path) -> None:
    options: dict[str, Any] = {"encoder_type": "Encoder4Editing", "dataset_type": "cars_encode", "lr": 1e-4, "n": 3}
    options |= {"keep": True, "checkpoint": None, "steps": [1, 2], "long": "x" * 500}
    write_wrapper(tmp_path / "x.pt", "e4e", opts=options)
    about = inspect_checkpoint(tmp_path / "x.pt")
    assert about["opts"] == options | {"steps": "a list", "long": "x" * 80}
    assert about["sees"] == "the whole picture at 256x192 px, rows 2 to 13 of the generator's 16"


def test_few_options_are_shown_of_many() -> None:
    assert len(shown_options({f"{i}" * 50: i for i in range(9 * MOST_OPTIONS)})) <= MOST_OPTIONS
    assert shown_options({"seed": 10**400, "lr": 0.1}) == {"seed": "a int", "lr": 0.1}
