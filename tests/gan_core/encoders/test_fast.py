"""The fast mode of every encoder stays within its tolerance of the exact one, and its cost can be measured."""

import copy

import pytest
import torch

from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.encoders.fast import TOLERANCE, prepare_fast
from gan_core.encoders.restyle import PAIR
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.loading import load_encoder
from gan_core.precision import compute_dtype, has_bfloat16
from gan_core.report.encoder_cost import encoder_cost

VARIANTS = ("psp", "psp-w", "psp-w-plus", "e4e", "style-transformer", "restyle-psp", "restyle-e4e")


def settled(name: str) -> Encoder:
    """A small encoder whose normalisations have seen pictures."""
    torch.manual_seed(0)
    encoder: Encoder = ENCODERS.get(name)(  # type: ignore[call-arg]
        n_latent=10, style_dim=32, input_size=64, units=[1, 2, 2, 1], width=8
    )
    encoder.attach(StyleGAN2(64, 32, 2, channels={r: 8 for r in (4, 8, 16, 32, 64)}).requires_grad_(False))
    for _ in range(5):
        encoder.train()(torch.rand(8, PAIR if encoder.draws else 3, 64, 64) * 2 - 1)
    encoder.latent_avg.normal_()
    return encoder.eval().requires_grad_(False)


@pytest.mark.parametrize("name", VARIANTS)
def test_fast_codes_are_close_to_exact_ones(name: str) -> None:
    encoder = settled(name)
    images = torch.rand(4, 3, 96, 96) * 2 - 1
    exact = encoder.encode(images)
    fast = prepare_fast(copy.deepcopy(encoder)).encode(images)
    assert fast.dtype == torch.float32
    offsets = exact - encoder.latent_avg
    assert (fast - exact).square().mean().sqrt() < TOLERANCE * offsets.square().mean().sqrt()
    assert not has_bfloat16() or not torch.equal(fast, exact)


def test_normalisations_after_convolutions_are_folded() -> None:
    encoder = settled("psp")
    before = sum(isinstance(m, torch.nn.BatchNorm2d) for m in encoder.modules())
    folded = prepare_fast(encoder)
    left = sum(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    units = len(folded.get_submodule("body"))  # type: ignore[arg-type]
    assert left == units < before
    assert folded.latent_avg.dtype == torch.float32
    assert folded.get_parameter("latlayer1.weight").dtype == compute_dtype("fast")


def test_the_cost_of_an_encoder_is_its_own(tiny_models: dict[str, str]) -> None:
    held = torch.ones(400 << 20, dtype=torch.uint8)  # which the process that measures must not count, nor hide behind
    cost = encoder_cost(tiny_models["encoder"])
    encoder = load_encoder(tiny_models["encoder"], None).model
    assert cost["parameters"] == sum(parameter.numel() for parameter in encoder.parameters())
    assert cost["images_per_s"] > 0
    assert 0 < cost["peak_mb"] < len(held) >> 20
