"""ReStyle gives the published implementation's numbers with the same weights, in all its variants."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.encoders.base import ENCODERS
from gan_core.encoders.restyle import ReStyle
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.geometry import framed_like
from tests.gan_core.encoders.test_published_encoders import filled
from tests.golden.fill import fill, golden, relative_error_of

CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "restyle-psp-64": ("restyle-psp", {"steps": 3}, 2),
    "restyle-psp-resnet34-64": ("restyle-psp", {"steps": 3, "backbone": "resnet"}, 1),
    "restyle-psp-fpn-64": ("restyle-psp", {"steps": 2, "pyramid": True}, 1),
    "restyle-e4e-64": ("restyle-e4e", {"steps": 3}, 1),
    "restyle-e4e-resnet34-cars": ("restyle-e4e", {"steps": 2, "backbone": "resnet", "input_size": [192, 256]}, 1),
}
PARAMETERS = [
    ("restyle-psp", {}, {18: 205_585_792, 16: 186_182_016, 14: 166_778_240}),
    ("restyle-e4e", {"backbone": "resnet"}, {18: 195_928_128, 16: 176_524_352, 14: 157_120_576}),
    ("restyle-psp", {"pyramid": True}, {18: 267_138_432, 16: 238_295_424, 14: 209_452_416}),
    ("restyle-psp", {"pyramid": True, "backbone": "resnet"}, {18: 257_480_768, 16: 228_637_760, 14: 199_794_752}),
]
TENSORS = {"ir-se": 565, "resnet": 397}


def build(name: str, n_latent: int, **changes: Any) -> ReStyle:
    with torch.device("meta"):
        encoder = ENCODERS.get(name)(n_latent, **changes)  # type: ignore[call-arg]
    assert isinstance(encoder, ReStyle)
    return encoder.eval().requires_grad_(False)


@pytest.mark.parametrize(("name", "changes", "counts"), PARAMETERS)
def test_the_full_size_has_the_published_parameters(name: str, changes: dict[str, Any], counts: dict[int, int]) -> None:
    for n_latent, expected in counts.items():
        encoder = build(name, n_latent, **changes)
        assert sum(p.numel() for p in encoder.parameters()) == expected
    if not changes.get("pyramid"):
        assert len(build(name, 18, **changes).state_dict()) == TENSORS[changes.get("backbone", "ir-se")]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_latents_and_pictures_of_each_step(case: str) -> None:
    name, changes, count = CASES[case]
    encoder, generator = build(name, 10, **changes), StyleGAN2(64).eval().requires_grad_(False)
    filled(encoder, prefix="encoder.")
    filled(generator, "stylegan2", "decoder.")
    encoder.latent_avg = 0.5 * torch.from_numpy(fill("input:latent_avg", (10, 512), rule="raw"))
    encoder.attach(generator)
    x = np.clip(0.5 * fill("input:x", (count, 3, *encoder.input_shape), rule="raw"), -1, 1)
    images, expected = torch.from_numpy(x), golden(case)
    found: dict[str, Tensor] = {"avg_image": framed_like(generator.synthesis(encoder.latent_avg[None]), images)}
    for step, latents in enumerate(encoder.passes(images), 1):
        drawn = generator.synthesis(latents)
        found |= {f"latent_step{step}": latents, f"image_step{step}": drawn}
    if encoder.framing.width != encoder.framing.height:
        found[f"image_step{step}"] = framed_like(drawn, images)  # the case compares what the encoder would see
    for key in {key.removesuffix("__sub") for key in expected[0]}:
        assert relative_error_of(found[key], key, expected) < 1e-4, key
