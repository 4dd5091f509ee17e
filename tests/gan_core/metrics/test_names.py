"""Names of numbers: taken apart, explained by the registry, and read as they were called before."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gan_core.compose.base import SCORES as COMPOSITION_SCORES
from gan_core.edits.plan import plan_edits
from gan_core.errors import ParamsError
from gan_core.meaning import Meaning
from gan_core.metrics.base import METRICS, RowMetric
from gan_core.metrics.names import find_columns, find_score, normal_name
from gan_core.metrics.statistics import merge_all, pack, unpack
from gan_core.params import check_params
from gan_core.translation.scores import SCORES as TRANSLATION_SCORES

EDITS = plan_edits(check_params({"edits": [{"direction": "hair_lightness", "strengths": [-1]}]}).edits)


class Sharpness(RowMetric):
    """A metric of another package."""

    name = "sharpness"
    meaning = Meaning("Sharpness", "px", "higher", 1, "How fine the lines are.")


@pytest.fixture
def plug_in() -> Iterator[type[RowMetric]]:
    METRICS.register("sharpness")(Sharpness)
    yield Sharpness
    del METRICS._items["sharpness"]


@pytest.mark.parametrize(
    ("name", "metric", "extractor", "picture", "label"),
    [
        ("mse/encoded", "mse", "", "encoded", "MSE"),
        ("lpips/alex/tuned", "lpips", "alex", "tuned", "LPIPS (alex)"),
        ("identity/toy/smile@+1", "identity", "toy", "smile@+1", "Identity (toy)"),
        ("side_effect/smile@+1", "side_effect", "", "smile@+1", "Side effect"),
        ("hair_lightness/hair_lightness@-1", "hair_lightness", "", "hair_lightness@-1", "Hair lightness"),
        ("hair_lightness/fairface/hair_lightness@-1", "hair_lightness", "fairface", None, "Hair lightness (fairface)"),
        ("fid/inception-clean/tuned", "fid", "inception-clean", "tuned", "FID (inception-clean)"),
        ("swd/mean/tuned", "swd", "mean", "tuned", "SWD"),
        ("swd/64/tuned", "swd", "64", "tuned", "SWD at 64 px"),
        ("mse", "mse", "", "", "MSE"),
    ],
)
def test_names_are_taken_apart_and_explained(
    name: str, metric: str, extractor: str, picture: str | None, label: str
) -> None:
    score = find_score(name, EDITS)
    assert (score.metric, score.extractor, score.meaning.label) == (metric, extractor, label)
    assert score.picture == (picture if picture is not None else "hair_lightness@-1")
    assert score.of(score.picture) == name


def test_an_edit_may_have_slashes_in_its_name() -> None:
    edits = plan_edits(check_params({"edits": [{"direction": "a/b", "strengths": [1]}]}).edits)
    assert find_score("identity/toy/a/b@+1", edits).picture == "a/b@+1"


@pytest.mark.parametrize("name", ["sharpness/encoded", "smile/smile@+1", "something/new/tuned"])
def test_what_no_installed_metric_knows_is_shown_by_its_name(name: str) -> None:
    meaning = find_score(name, EDITS).meaning
    assert meaning == Meaning(name.rpartition("/")[0])
    assert meaning.show(0.123456) == "0.1235" and meaning.help == ""


def test_a_metric_of_another_package_is_shown_by_its_own_words(plug_in: type[RowMetric]) -> None:
    score = find_score("sharpness/tuned")
    assert score.meaning == plug_in.meaning
    assert score.meaning.show_with_unit(1.234) == "1.2 px"
    assert score.meaning.help == "How fine the lines are. Higher is better."


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("hair_lightness/hair_lightness@-1", 0.456, "+0.46"),
        ("hair_lightness/hair_lightness@-1", -0.456, "\u22120.46"),
        ("hair_lightness/hair_lightness@-1", -0.001, "+0.00"),
        ("psnr/tuned", 31.26, "31.3"),
    ],
)
def test_numbers_have_the_digits_and_signs_of_their_score(name: str, value: float, shown: str) -> None:
    assert find_score(name, EDITS).meaning.show(value) == shown


def test_changes_are_ratios_where_less_is_better_and_differences_elsewhere() -> None:
    less, more = find_score("mse/tuned").meaning, find_score("psnr/tuned").meaning
    assert (less.show_change(0.4, 0.1), less.show_change(0.1, 0.2)) == ("÷ 4.0", "× 2.0")
    assert (more.show_change(20, 31), more.show_change(3, 2.5)) == ("+11.0", "\u22120.5")
    assert less.show_change(0.4, 0.0) == "\u22120.4000"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lpips_toy/encoded", "lpips/toy/encoded"),
        ("identity_arcface-ir-se50/smile@+1", "identity/arcface-ir-se50/smile@+1"),
        ("age_fairface/age@+1", "age/fairface/age@+1"),
        ("side_effect_celeba-5/smile@+1", "side_effect/celeba-5/smile@+1"),
        ("side_effect/smile@+1", "side_effect/smile@+1"),
        ("hair_lightness/hair_lightness@-1", "hair_lightness/hair_lightness@-1"),
        ("identity/toy/encoded", "identity/toy/encoded"),
        ("loss_l2", "loss_l2"),
    ],
)
def test_names_of_the_last_release_are_read(old: str, new: str) -> None:
    assert normal_name(old) == new == normal_name(new)


def test_a_metric_that_is_called_like_an_old_name_keeps_its_own(
    plug_in: type[RowMetric], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plug_in, "name", "identity_margin")
    assert normal_name("identity_margin/tuned") == "identity_margin/tuned"


def test_statistics_of_the_last_release_are_merged_with_those_of_today() -> None:
    parts: list[dict[str, Any]] = [
        {"lpips|lpips_toy/tuned|n": np.asarray(2.0), "lpips|lpips_toy/tuned|sum": np.asarray(1.0)},
        {"lpips|lpips/toy/tuned|n": np.asarray(3.0), "lpips|lpips/toy/tuned|sum": np.asarray(4.0)},
    ]
    assert merge_all(parts) == {"lpips": {"lpips/toy/tuned": {"n": 5.0, "sum": 5.0}}}


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_has_a_name_and_a_meaning(name: str) -> None:
    metric = METRICS.get(name)
    assert metric.name == name
    assert metric.meaning.sentence.endswith(".") and metric.meaning.better in ("higher", "lower")


def test_scores_of_translations_and_compositions_have_meanings() -> None:
    meanings = [score.meaning for score in TRANSLATION_SCORES.values()] + list(COMPOSITION_SCORES.values())
    assert all(meaning.label and meaning.sentence.endswith(".") for meaning in meanings)


COLUMNS = [
    *("psnr/encoded", "psnr/tuned", "identity/toy/encoded", "identity/toy/tuned", "identity/toy/smile@+1"),
    *("identity/arc/smile@+1", "side_effect/smile@+1", "side_effect/yaw@+1", "lpips"),
]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("identity/toy/encoded", ["identity/toy/encoded"]),
        ("psnr/encoded", ["psnr/encoded"]),
        ("identity/smile@+1", ["identity/toy/smile@+1", "identity/arc/smile@+1"]),
        ("identity/toy", ["identity/toy/tuned", "identity/toy/smile@+1"]),
        ("psnr", ["psnr/tuned"]),
        ("side_effect", ["side_effect/smile@+1", "side_effect/yaw@+1"]),
        ("lpips", ["lpips"]),
    ],
)
def test_short_names_say_scores_of_what_a_run_ends_with(said: str, found: list[str]) -> None:
    assert find_columns(said, COLUMNS) == found


def test_a_name_of_no_score_is_refused_with_near_ones() -> None:
    with pytest.raises(ParamsError, match=r"no score 'identiti/smile@\+1'; did you mean 'identity/smile@\+1'"):
        find_columns("identiti/smile@+1", COLUMNS)
    with pytest.raises(ParamsError, match="no score 'identity/tuned/toy'"):
        find_columns("identity/tuned/toy", COLUMNS)


def test_statistics_of_an_edit_with_a_bar_in_its_name() -> None:
    states = {"fid": {"fid/toy-attr/a|b": {"n": np.asarray(2.0)}}, "swd": {"swd/a": {"n": np.asarray(1.0)}}}
    assert unpack(pack(states)) == states
