"""The metrics of photographs: their names, what they mean, and that a set of them can be chosen by its name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.checkpoints.files import Card, Loaded
from gan_core.edits.plan import plan_edits
from gan_core.errors import ParamsError
from gan_core.judges.photographs import JUDGES
from gan_core.judges.pictures import Pictures
from gan_core.metrics.base import METRICS, Setting
from gan_core.metrics.frechet import gather
from gan_core.metrics.names import find_score
from gan_core.params import METRIC_SETS, EditParams, MeasureParams, ModelPaths, check_params

EDITS = tuple(plan_edits([EditParams(direction="age", strengths=[1])]))
SETTING = Setting(MeasureParams(), ModelPaths(), EDITS, tuned=False)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[Tensor], Tensor]], None]:
    """Return what lets a function of the pictures stand for a judge."""

    def stand_in(name: str, look: Callable[[Tensor], Tensor]) -> None:
        card = Card(kind="network", name=name, made_by="a test", licence="", source="")
        loaded: Loaded[Any] = Loaded(look, name, card, "")
        monkeypatch.setitem(JUDGES, name, lambda: loaded)

    return stand_in


def shown(**levels: list[float]) -> Pictures:
    """Return pictures of one grey level each."""
    images = {name: torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 3, 8, 8) for name, values in levels.items()}
    return Pictures(images, [str(i) for i in range(len(next(iter(images.values()))))])


def test_people_are_the_same_below_the_published_distance(judge: Any) -> None:
    judge("dlib-resnet", lambda images: images[:, :1, 0, 0].repeat(1, 128) / 128**0.5)
    metric = METRICS.get("identity-distance")(SETTING)
    edit = EDITS[0].column
    pictures = shown(aligned=[0.0, 0.0], encoded=[0.59, 0.61], **{edit: [0.0, 1.0]})
    scores = metric.score(pictures)
    assert (
        list(scores)
        == metric.columns
        == [
            "identity-distance/dlib-resnet/encoded",
            "same-person/dlib-resnet/encoded",
            f"identity-distance/dlib-resnet/{edit}",
            f"same-person/dlib-resnet/{edit}",
        ]
    )
    np.testing.assert_allclose(scores["identity-distance/dlib-resnet/encoded"], [0.59, 0.61], rtol=1e-6)
    assert scores["same-person/dlib-resnet/encoded"].tolist() == [1, 0]
    states: Any = {}
    metric.update(states, pictures, scores)
    assert metric.compute(states).values["same-person/dlib-resnet/encoded"] == 0.5


def test_faces_of_two_rows_are_compared_whatever_shards_they_are_in(judge: Any) -> None:
    judge("dlib-resnet", lambda images: images[:, :1, 0, 0].repeat(1, 128) / 128**0.5)
    metric = METRICS.get("identity-pairs")(SETTING)
    parts: list[Any] = [{}, {}]
    metric.update(parts[0], shown(aligned=[0.0, 1.0]), {})
    metric.update(parts[1], shown(aligned=[0.25]), {})
    names = [f"{name}/dlib-resnet/aligned" for name in ("other", "nearest-other", "other-person")]
    assert metric.compute(parts[1]).omitted == dict.fromkeys(names, "1 rows have no pair: 2 are needed")
    for one, other in (parts, reversed(parts)):
        values = metric.compute({"aligned": metric.merge(one["aligned"], other["aligned"])}).values
        assert list(values) == names
        np.testing.assert_allclose(list(values.values()), [2 / 3, 0.25, 2 / 3])
    assert all(find_score(name).meaning.label.endswith("(dlib-resnet)") for name in names)


def test_attributes_change_by_shares_of_their_ranges(judge: Any) -> None:
    def classes(images: Tensor) -> Tensor:
        return torch.nn.functional.one_hot((images[:, 0, 0, 0] * 80).round().long(), 81).float()

    judge("age-v1", classes)
    judge("gender-v1", lambda images: torch.stack([images[:, 0, 0, 0], 1 - images[:, 0, 0, 0]], 1))
    judge("mini-xception", lambda images: images[:, :1, 0, 0].repeat(1, 7))
    metric = METRICS.get("face-attributes")(SETTING)
    edit = EDITS[0].column
    scores = metric.score(shown(aligned=[0.5], encoded=[0.25], **{edit: [0.75]}))
    assert list(scores) == metric.columns
    assert {name: round(float(values[0]), 4) for name, values in scores.items()} == {
        "age-drift/age-v1/encoded": 0.25,
        "gender-drift/gender-v1/encoded": 0.25,
        "smile-drift/mini-xception/encoded": 0.25,
        f"age/age-v1/{edit}": 0.5,
        f"side_effect/photos/{edit}": 0.5,
    }
    assert set(metric.identity()) == {"age-v1_sha256", "gender-v1_sha256", "mini-xception_sha256"}


def test_the_frechet_distance_of_other_features_is_not_called_fid() -> None:
    states = {f"efficientnet-lite0/{picture}": gather(np.eye(4)) for picture in ("aligned", "encoded")}
    metric = METRICS.get("frechet")
    assert list(metric.compute(states).omitted) == ["frechet/efficientnet-lite0/encoded"]
    states = {name: gather(np.eye(4)[:, :2]) for name in states}
    assert list(metric.compute(states).values) == ["frechet/efficientnet-lite0/encoded"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("identity-distance/dlib-resnet/encoded", "Identity distance (dlib-resnet)"),
        ("same-person/dlib-resnet/encoded", "Same person (dlib-resnet)"),
        ("perceptual/efficientnet-lite0/encoded", "Perceptual distance (efficientnet-lite0)"),
        ("frechet/efficientnet-lite0/encoded", "Fréchet distance (efficientnet-lite0)"),
        ("smile-drift/mini-xception/encoded", "Smile drift (mini-xception)"),
        (f"age/age-v1/{EDITS[0].column}", "Age (age-v1)"),
        (f"side_effect/photos/{EDITS[0].column}", "Side effect (photos)"),
    ],
)
def test_every_name_has_a_meaning_that_says_which_network_measured(name: str, label: str) -> None:
    assert find_score(name, EDITS).meaning.label == label


def test_a_set_of_metrics_stands_for_its_metrics() -> None:
    chosen = METRIC_SETS["photos"]
    for values in ({"measure": "photos"}, {"measure": {"metrics": "photos", "swd_images": 64}}):
        assert check_params(values).measure.metrics == chosen
    assert check_params({"measure": "toy"}) == check_params({})
    assert set(chosen) <= set(METRICS.names())
    with pytest.raises(ParamsError, match=r"measure: .*unknown set of metrics 'photo'; did you mean 'photos'"):
        check_params({"measure": "photo"})
