"""What parameters take, in words, and the descriptions that their sections have of them."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from gan_core.described import describe_section, summary_of, values_of
from gan_core.params import EDIT_KINDS, OPERATIONS, Params
from gan_core.sections import Count, Integer, Section, Unit


class Inner(Section):
    """A section within another."""

    share: Unit = 0.5
    """A part
    of the whole."""


class Outer(Section):
    """A section of every kind of parameter."""

    name: str
    """What it is called."""
    inner: Inner = Inner()
    pair: tuple[Integer, Integer] | None = None


class Narrowed(Outer):
    """One parameter of its base takes less."""

    name: Literal["a", "b"] = "b"


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (bool, "true or false"),
        (Count, "whole number ≥ 1"),
        (Integer, "whole number"),
        (Annotated[float, Field(gt=0, lt=1)], "number > 0, < 1"),
        (Count | None, "whole number ≥ 1 or null"),
        (Literal["png", "webp"], "png, webp"),
        (list[Unit], "list of: number ≥ 0, ≤ 1"),
        (tuple[str, ...], "list of: text"),
        (tuple[int, int], "2 × whole number"),
        (dict[str, float], "by name: number"),
        (list[Inner], "list of: an entry"),
    ],
)
def test_values_in_words(annotation: Any, said: str) -> None:
    assert values_of(annotation) == said


def test_sections_within_sections_and_what_a_base_says() -> None:
    told = {each.key: each for each in describe_section(Narrowed, "x.")}
    assert list(told) == ["x.name", "x.inner.share", "x.pair"]
    assert (told["x.name"].values, told["x.name"].default, told["x.name"].meaning) == (
        "a, b",
        "b",
        "What it is called.",
    )
    assert (told["x.inner.share"].default, told["x.inner.share"].meaning) == ("0.5", "A part of the whole.")
    assert told["x.pair"].default == "null" and next(describe_section(Outer)).default == ""
    assert [each.key for each in describe_section(Outer, without=("name",))] == ["inner.share", "pair"]


def test_nothing_that_a_run_reads_lacks_a_description() -> None:
    entries = [item.spec for registry in (EDIT_KINDS, OPERATIONS) for _, item in registry]
    bare = [each.key for section in (Params, *entries) for each in describe_section(section) if not each.meaning]
    assert bare == [] and len(entries) > 10


def test_the_first_paragraph_of_documentation_in_a_line() -> None:
    assert summary_of(Inner) == "A section within another."
    assert (
        summary_of(values_of)
        == "Say what a parameter of this type takes, in words, with the bounds that ``metadata`` gives."
    )
    assert summary_of(3) == "3"
