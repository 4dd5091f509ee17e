"""Ways to invert rows: how they are written, grouped, and taken by a run that follows a table."""

import pytest

from gan_core.errors import ParamsError
from gan_core.inversion.allocation import Choice
from gan_core.inversion.ways import groups_of, parse_way


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("features", ("", ("features",))),
        ("psp-w: hypernetwork, pti", ("psp-w", ("hypernetwork", "pti"))),
        ("psp-w:hypernetwork,pti", ("psp-w", ("hypernetwork", "pti"))),
        ("e4e:", ("e4e", ())),
    ],
)
def test_a_way_is_an_encoder_and_refinements(text: str, way: tuple[str, tuple[str, ...]]) -> None:
    assert parse_way(text) == way


@pytest.mark.parametrize("text", ["", ":", " , "])
def test_a_text_that_names_nothing_is_one_sentence(text: str) -> None:
    with pytest.raises(ParamsError, match=r"is no way to invert: write `features`"):
        parse_way(text)


def test_an_unknown_refinement_is_refused_before_any_trial() -> None:
    with pytest.raises(ParamsError, match="unknown refinement 'hypernetwrk'; did you mean 'hypernetwork'"):
        parse_way("psp-w: hypernetwrk, pti")


def test_rows_of_a_way_and_like_steps_meet_in_a_batch() -> None:
    choices = [Choice(0, 5), Choice(1, 0), Choice(0, 1), Choice(0, 40), Choice(1, 0), Choice(0, 2)]
    assert groups_of(choices, 2) == [[2, 5], [0, 3], [1, 4]]
    assert groups_of(choices, 8) == [[2, 5, 0, 3], [1, 4]]
    assert groups_of([], 8) == []
