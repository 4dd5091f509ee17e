from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.translations import (
    BASELINES,
    HEADLINES,
    describe,
    draw_examples,
    examine,
    find_nearest,
    small_inputs,
    task_params,
)
from gan_core.params import ModelPaths, Params, check_params
from gan_core.stages.translate import TranslateStage
from gan_core.toy.renderer import render, sample_factors
from gan_core.toy.training.portraits import PortraitSet
from gan_core.translation.inputs import EncoderInput
from gan_core.translation.tasks import TASKS


def portraits(first: int, count: int) -> PortraitSet:
    factors = sample_factors(range(first, first + count))
    made = render(factors)
    pixels = made.image.mul(127.5).add(128).clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return PortraitSet(pixels, made.segmentation.numpy(), factors.numpy())


@pytest.fixture(scope="module")
def train() -> PortraitSet:
    return portraits(100, 6)


@pytest.fixture(scope="module")
def params(translators: ModelPaths) -> Params:
    variants = [{"kind": "mix", "latent_mask": [8, 9], "pictures": 2}]
    base = check_params({"translate": {"variants": variants}})
    return base.model_copy(update={"models": translators})


def test_every_task_has_a_baseline_and_a_headline() -> None:
    assert set(BASELINES) == set(HEADLINES) == set(TASKS.names()) - {"inversion"}


@pytest.mark.parametrize("task", ["super-resolution", "frontalisation", "sketch", "toonify"])
def test_a_task_is_scored_beside_its_baseline_and_the_truth(task: str, params: Params, train: PortraitSet) -> None:
    found = examine(task, params, portraits(0, 3), train, 3)
    headline = HEADLINES[task][0]
    assert {headline, f"baseline/{headline}", f"truth/{headline}", "diversity"} <= set(found)
    assert np.isfinite(list(found.values())).all()
    assert (task == "toonify") == ("lpips_cel" in found)
    assert found.get("truth/lpips", 0.0) < 0.05, "the picture went through 8 bits"
    assert found["gain_error"] > 0 and any("the baseline, by" in line for line in describe(task, found))


def test_examples_are_inputs_outputs_variants_and_truths(params: Params, train: PortraitSet) -> None:
    drawn = draw_examples("sketch", params, train, [1, 3])
    assert drawn.shape == (2 * 5, 3, 64, 64)
    assert torch.equal(drawn[[4, 9]], train.images(np.array([1, 3])))
    assert not torch.equal(drawn[2], drawn[3]), "two variants"


def test_psnr_and_lpips_are_told_by_factor(params: Params, train: PortraitSet) -> None:
    found = examine("super-resolution", params, train, train, 6)
    factors = {name.rpartition("/")[2] for name in found if name.startswith("psnr/")}
    assert len(factors) > 1 and factors <= {"x2", "x4", "x8", "x16", "x32"}
    assert {f"baseline/psnr/{factor}" for factor in factors} <= set(found)


@pytest.mark.parametrize("task", ["segmentation", "inpainting"])
def test_the_nearest_training_portrait_to_one_of_them_is_itself(
    task: str, params: Params, train: PortraitSet, build: Callable[..., TranslateStage]
) -> None:
    stage = build(task)
    draw = find_nearest(stage, train, task_params(task, params))
    image, labels = train.images(np.array([4]))[0], torch.from_numpy(train.segmentation[4])
    seen: EncoderInput = stage.transform.make(image, labels, torch.Generator().manual_seed(0))
    assert torch.equal(draw([seen])[0], image)
    assert small_inputs(stage, train).shape == (6, stage.transform.channels, 16, 16)
