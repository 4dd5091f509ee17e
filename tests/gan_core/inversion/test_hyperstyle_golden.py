"""HyperStyle's hypernetworks give the published implementation's numbers with the same weights."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gan_core.encoders.base import ENCODERS
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.geometry import framed_like
from gan_core.inversion.hypernetwork import HyperStyle, weight_names
from gan_core.inversion.weights import draw_changed
from tests.gan_core.encoders.test_published_encoders import filled
from tests.golden.fill import fill, golden, relative_error_of

PUBLISHED = [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23, 24]
SIZES = {1024: (17, 332_664_896, 429), 512: (15, 325_188_672, 413), 256: (13, 312_984_640, 397)}
"""Layers, parameters, and names in a file, where each of nine blocks names the four shared tensors again."""
SEPARABLE = {1024: 215_123_456, 512: 207_296_960, 256: 198_710_080}
CASES = ("hyperstyle-256", "hyperstyle-64-torgb", "hyperstyle-separable-256")


def build(size: int, layers: list[int], **changes: Any) -> HyperStyle:
    with torch.device("meta"):
        generator = StyleGAN2(size)
        filters = [list(generator.get_parameter(name).shape[1:4]) for name in weight_names(generator)]
        return HyperStyle(filters, layers, **changes).eval().requires_grad_(False)


@pytest.mark.parametrize("size", SIZES)
def test_the_full_size_has_the_published_parameters(size: int) -> None:
    count, parameters, names = SIZES[size]
    network = build(size, PUBLISHED[:count])
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(network.state_dict()) + 4 * 9 == names
    separable = build(size, PUBLISHED[:count], separable=True)
    assert sum(p.numel() for p in separable.parameters()) == SEPARABLE[size]


def fill_shared(network: HyperStyle) -> None:
    for name in ("w1", "b1", "w2", "b2"):
        key = f"shared_weight_hypernet.{name}"
        value = fill(f"hypernet.{key}", network.get_parameter(key).shape, rule="raw") / np.float32(40)
        owner = network.get_submodule("shared_weight_hypernet")
        owner.register_parameter(name, nn.Parameter(torch.from_numpy(value), requires_grad=False))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_offsets_pictures_and_an_edit(case: str) -> None:
    expected = golden(case)
    args = expected[1]["args"]
    generator = StyleGAN2(args["output_size"]).eval().requires_grad_(False)
    layers = [int(i) for i in args["layers_to_tune"].split(",")]
    network = build(args["output_size"], layers, separable="separable" in case, steps=args["n_iters"])
    with torch.device("meta"):
        encoder = ENCODERS.get("psp-w")(generator.n_latent).eval()  # type: ignore[call-arg]
    filled(generator, "stylegan2", "decoder.")
    filled(network, prefix="hypernet.")
    fill_shared(network)
    filled(encoder, prefix="w_encoder.")
    encoder.latent_avg = 0.5 * torch.from_numpy(fill("input:latent_avg", (generator.n_latent, 512), rule="raw"))
    x = np.clip(0.5 * fill("input:x", (args["batch"], 3, 256, 256), rule="raw"), -1, 1)
    images = torch.from_numpy(x)
    codes = encoder.encode(images)
    pairs = torch.cat([images, framed_like(generator.synthesis(codes), images)], 1)
    found: dict[str, Tensor] = {"codes": codes, "features1": network.features(pairs)}
    found |= {f"step1_delta_{i}": offset for i, offset in network(pairs).items()}
    passes = list(network.passes(generator, images, codes))
    found |= {f"image_step{step}": drawn for step, (_, drawn) in enumerate(passes, 1)}
    changes = passes[-1][0]
    for i, name in zip(layers, network.changed_names(generator), strict=True):
        found[f"stepN_delta_{i}"] = (changes[name] / generator.get_parameter(name))[:, 0]
    direction = torch.from_numpy(fill("input:direction", (1, 512), rule="raw"))
    found["edit_image"] = draw_changed(generator, changes, codes + 2 * direction / direction.norm())
    for key in {key.removesuffix("__sub") for key in expected[0]}:
        assert relative_error_of(found[key], key, expected) < 1e-4, key
