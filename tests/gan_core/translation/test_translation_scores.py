from dataclasses import replace

import numpy as np
import pytest
import torch

from gan_core.params import ModelPaths
from gan_core.toy.renderer import FACTORS, Portraits, render, sample_factors
from gan_core.translation.degradations import degrade
from gan_core.translation.inputs import EncoderInput, draw_sketch, one_hot
from gan_core.translation.masks import draw_mask
from gan_core.translation.scores import SCORES, SCORES_OF, YAW_DEGREES, Scorer, Translated
from gan_core.translation.tasks import TASKS


@pytest.fixture(scope="module")
def portraits() -> Portraits:
    return render(sample_factors(range(2)))


@pytest.fixture(scope="module")
def scorer(translators: ModelPaths) -> Scorer:
    return Scorer([name for name in SCORES if name != "diversity"], translators)


@pytest.fixture
def perfect(portraits: Portraits) -> Translated:
    seen = [EncoderInput(image, torch.zeros(64, 64, dtype=torch.bool)) for image in portraits.image]
    return Translated(seen, portraits.image, portraits.image, [], portraits.image)


def test_degrees_are_those_that_the_attribute_regressor_learnt() -> None:
    assert [(f.low, f.high) for f in FACTORS if f.name == "yaw"] == [(-YAW_DEGREES, YAW_DEGREES)]


def test_every_task_has_scores() -> None:
    assert set(SCORES_OF) == set(TASKS.names())
    assert {name for names in SCORES_OF.values() for name in names} | {"diversity"} == set(SCORES)


def test_a_perfect_output_has_perfect_scores(scorer: Scorer, perfect: Translated, portraits: Portraits) -> None:
    assert SCORES["mse"].compute(scorer, perfect).tolist() == [0, 0]
    assert SCORES["psnr"].compute(scorer, perfect).tolist() == [100, 100]
    assert SCORES["lpips"].compute(scorer, perfect).abs().max() == 0
    assert SCORES["identity"].compute(scorer, perfect).tolist() == pytest.approx([1, 1], abs=1e-5)
    found = scorer.label(portraits.image)
    labelled = replace(perfect, inputs=one_hot(found, 13))
    assert SCORES["mean_iou"].compute(scorer, labelled).tolist() == [1, 1]
    assert SCORES["edges"].compute(scorer, replace(perfect, inputs=draw_sketch(found))).tolist() == [1, 1]


def test_agreement_falls_when_lines_and_labels_move(
    scorer: Scorer, perfect: Translated, portraits: Portraits, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = portraits.segmentation.long()
    monkeypatch.setattr(scorer, "label", lambda images: labels)
    for name, make in (("mean_iou", lambda ids: one_hot(ids, 13)), ("edges", draw_sketch)):
        scores = [SCORES[name].compute(scorer, replace(perfect, inputs=make(labels.roll(by, 2)))) for by in (0, 4, 12)]
        assert scores[0].tolist() == pytest.approx([1, 1])
        assert (scores[0] > scores[1]).all() and (scores[1] > scores[2]).all(), name


def test_data_consistency_asks_only_for_what_is_left(scorer: Scorer, perfect: Translated) -> None:
    rough = degrade(perfect.inputs, 4)
    seen = [EncoderInput(image, factor=4) for image in rough]
    same = SCORES["consistency"].compute(scorer, replace(perfect, seen=seen, inputs=rough))
    other = SCORES["consistency"].compute(scorer, replace(perfect, seen=seen, inputs=rough.flip(0)))
    assert (same > 20).all() and (same > other + 5).all()


def test_errors_are_told_apart_by_the_mask(scorer: Scorer, perfect: Translated) -> None:
    hidden = draw_mask("centre", 64, torch.Generator())
    output = perfect.inputs + hidden * 0.5
    x = replace(perfect, output=output, seen=[EncoderInput(image, hidden) for image in perfect.inputs])
    assert SCORES["mse_hidden"].compute(scorer, x).tolist() == pytest.approx([0.25, 0.25])
    assert SCORES["mse_shown"].compute(scorer, x).tolist() == pytest.approx([0, 0])


def test_diversity_is_the_mean_over_pairs(translators: ModelPaths, perfect: Translated) -> None:
    scorer = Scorer(["diversity"], translators)
    a, b = perfect.inputs, perfect.inputs.flip(3)
    two, three = (SCORES["diversity"].compute(scorer, replace(perfect, variants=v)) for v in ([a, b], [a, b, a]))
    assert (two > 0).all()
    assert three.tolist() == pytest.approx((two * 2 / 3).tolist(), rel=1e-4)


def test_edges_need_no_truth(translators: ModelPaths, perfect: Translated) -> None:
    scorer = Scorer(["edges"], translators)
    found = scorer.score(replace(perfect, truth=None, inputs=draw_sketch(torch.zeros(2, 64, 64))))
    assert np.isfinite(found["edges"]).all()
