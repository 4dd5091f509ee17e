"""The golden numbers on a real card, and what ``exact`` and ``fast`` promise there; skipped where there is none.

With ``PRETENDED_DEVICE=1`` they run on the pretended device.
"""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.device import KINDS, Compute, compute_on, fetch, find_device, place
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.pti import tune_pivots
from gan_core.precision import has_bfloat16, in_precision
from tests.gan_core.encoders.test_psp import golden_images
from tests.gan_core.encoders.test_psp import published as published_encoder
from tests.gan_core.generators.test_stylegan2 import load_filled, raw
from tests.gan_core.inversion.test_pti import alex, published, published_generator, published_target
from tests.golden.fill import golden, relative_error

pretended: Any = nullcontext
if os.environ.get("PRETENDED_DEVICE"):
    from tests.device.fakegpu import fakegpu as pretended

KIND = next((kind for kind in KINDS if kind != "cpu" and KINDS[kind].count()), None)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(KIND is None, reason="no card is there (cuda or mps)")]
TOLERANCE = 1e-4
"""That of the CPU: float32 on a card rounds in another order, and TF32, which is a thousand times coarser, is off."""
TUNED_TOLERANCE = 5e-3
FAST_TOLERANCE = 0.02


@pytest.fixture(autouse=True)
def card() -> Iterator[Compute]:
    """Compute on the card."""
    assert KIND is not None
    found = find_device(KIND)
    if pretended is not nullcontext:
        found = replace(found, graphs=None)  # a pretended recording keeps all that it computes: 4 GB here
    with pretended(), compute_on(found), torch.no_grad():
        yield found


def generator_of(size: int, multiplier: int) -> StyleGAN2:
    generator = StyleGAN2(size, channel_multiplier=multiplier).requires_grad_(False)
    load_filled(generator, f"rosinality_generator_{size}_cm{multiplier}")
    return place(generator)


def draw(generator: StyleGAN2) -> Tensor:
    return generator.synthesis(place(0.7 * raw("w_plus", 2, generator.n_latent, 512)))


def test_the_generator_draws_the_golden_pictures() -> None:
    expected, _ = golden("stylegan2-generator-64")
    assert relative_error(fetch(draw(generator_of(64, 2))), expected["w_plus_image"]) < TOLERANCE
    expected, meta = golden("stylegan2-generator-256-cm1")
    generator = generator_of(256, 1)
    image = fetch(generator.synthesis(place(0.7 * raw("w_plus", 1, 14, 512)))).ravel()
    assert relative_error(image[:: meta["subsampled"]["image"]["stride"]], expected["image__sub"]) < TOLERANCE


def test_the_encoder_finds_the_golden_codes() -> None:
    expected, _ = golden("psp-gradual-style-encoder-64")
    encoder = place(published_encoder(10, "psp_gradual_style_encoder_64"))
    assert relative_error(fetch(encoder(place(golden_images()))), expected["codes"]) < TOLERANCE


@pytest.mark.parametrize("terms", ["l2", "l2-lpips"])
def test_five_steps_of_tuning_equal_the_published_loop(terms: str, tmp_path: Path) -> None:
    expected, meta = golden(f"pti-tuning-64-{terms}")
    params = published(steps=5, lr=3e-4, perceptual_weight=meta["args"]["pt_lpips_lambda"])
    generator, pivot = place(published_generator()), place(0.5 * raw("pivot", 1, 10, 512))
    (tuned,) = tune_pivots(generator, pivot, place(published_target()), alex(tmp_path), params, [0])
    assert relative_error([step.total for step in tuned.losses], expected["loss"]) < TUNED_TOLERANCE
    assert relative_error(fetch(tuned.image), expected["image_after"]) < TUNED_TOLERANCE


def test_exact_is_the_same_twice() -> None:
    generator = generator_of(64, 2)
    assert np.array_equal(fetch(draw(generator)), fetch(draw(generator)))


def test_fast_is_within_its_tolerance() -> None:
    generator = generator_of(64, 2)
    exact = fetch(draw(generator))
    with in_precision(generator, "fast"):
        error = relative_error(fetch(draw(generator)), exact)
    assert error < FAST_TOLERANCE and (error > 0 or not has_bfloat16())
