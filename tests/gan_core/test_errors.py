"""What a user reads after a mistake."""

import pytest

from gan_core import errors
from gan_core.errors import UserError, near_matches


def test_near_matches_names_close_ones_first() -> None:
    assert near_matches("smlie", ["yaw", "smile", "age"]) == "; did you mean 'smile'?"


def test_near_matches_joins_several() -> None:
    text = near_matches("hair", ["hair_length", "hairs", "yaw"])
    assert text == "; did you mean 'hairs' or 'hair_length'?"


def test_near_matches_lists_everything_when_nothing_is_close() -> None:
    assert near_matches("zzz", iter(["b", "a"])) == "; known: a, b"


def test_a_name_that_only_looks_the_same_is_said() -> None:
    nfc, nfd = "Zo\xeb.png", "Zoe\u0308.png"
    known = [*map(str, range(2000)), nfd]
    assert near_matches(nfc, known) == "; it is there in another Unicode form (NFC, NFD): write 'Zoe\\u0308.png'"
    assert near_matches("Zo", known[:1000]).startswith("; known: 0, 1, 10")


def test_near_matches_is_silent_without_candidates() -> None:
    assert near_matches("zzz", []) == ""


@pytest.mark.parametrize("name", ["ParamsError", "CheckpointError", "DataError"])
def test_every_error_for_users_can_be_caught_at_once(name: str) -> None:
    with pytest.raises(UserError, match="what happened"):
        raise getattr(errors, name)("what happened")
