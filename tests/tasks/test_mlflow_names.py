"""Names reach MLflow in a form that it takes, and none is mistaken for another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_model_name, _validate_param, _validate_tag

from tasks.tracking.names import cut_names, model_name, own_model_name, own_name, shorten, tracked_name

ODD = st.text("ab/.@+-1:x0 %é_()'\"\\\n", max_size=30)
NAMES = ODD | st.text(max_size=40)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("fid/toy-attr/tuned", "fid/toy-attr/tuned"),
        ("side_effect/hair_lightness@+0.5", "side_effect/hair_lightness:0.5"),
        ("swd/smile@-1", "swd/smile:-1"),
        ("old (1)@+1", "old :x28:1:x29::1"),
        ("age=old@+1e-05", "age:x3d:old:1e-05"),
        ("Lächeln/笑顔", "Lächeln/笑顔"),
        ("a:b@c", "a:x3a:b:x40:c"),
        ("../a//b/", ":x2e::x2e:/a:x2f:/b:x2f:"),
    ],
)
def test_a_name_is_written_as_mlflow_takes_it(name: str, written: str) -> None:
    assert tracked_name(name) == written and own_name(written) == name


@given(NAMES)
def test_every_name_is_taken_and_can_be_read_back(name: str) -> None:
    written = tracked_name(name)
    _validate_metric_name(written)
    _validate_param(written, "x")
    _validate_tag(written, "x")
    assert own_name(written) == name or name in cut_names({name: 1}).values()


@given(st.sets(st.text("ab(é", min_size=240, max_size=300) | NAMES, min_size=2, max_size=5))
def test_no_two_names_become_one(names: set[str]) -> None:
    assert len({tracked_name(name) for name in names}) == len(names)
    assert all(len(tracked_name(name)) <= 250 for name in names)


@given(NAMES)
def test_names_of_encoders_are_taken_by_the_registry_and_its_filters(name: str) -> None:
    written = model_name(name)
    if name.strip():
        _validate_model_name(written)
    assert own_model_name(written) == name and '"' not in written


def test_a_text_that_is_cut_says_so_and_differs_where_the_rest_does() -> None:
    one, other = shorten("a" * 7000 + "1", 6000, "params.json"), shorten("a" * 7000 + "2", 6000, "params.json")
    assert len(one) == 6000 and one != other and one.startswith("a" * 5900)
    assert one[one.index("…") :].startswith("… (7,001 letters, sha256 ") and one.endswith("; whole in params.json)")
    assert shorten("short", 6000) == "short"
