"""Words of messages: plurals, and what tells two values apart."""

import pytest

from gan_core.wording import changed, counted

EDITS = [{"direction": f"direction-{i}", "strength": 1.0} for i in range(8)]


def test_a_number_has_its_noun() -> None:
    assert [counted(n, "shard") for n in (0, 1, 2)] == ["0 shards", "1 shard", "2 shards"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [(64, 128, "64 → 128"), (None, "smile", "null → smile"), ([1, 2], {}, "[1, 2] → {}"), ("é", 1.5, "é → 1.5")],
)
def test_short_values_are_told_whole(before: object, after: object, said: str) -> None:
    assert changed(before, after) == said


def test_of_long_values_the_part_that_differs_is_told() -> None:
    other = [*EDITS[:5], EDITS[5] | {"strength": -1.5}, *EDITS[6:]]
    before, after = changed(EDITS, other).split(" → ")
    assert "1.0" in before and "-1.5" in after and before.startswith("…") and after.endswith("…")
    assert changed("a" * 64, "b" * 64) == f"{'a' * 40}… → {'b' * 40}…"


def test_a_value_that_is_longer_only_at_its_end_is_told_by_its_end() -> None:
    before, after = changed(EDITS, EDITS[:-1]).split(" → ")
    assert before != after and after.endswith("]")
