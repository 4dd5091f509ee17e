"""HFGI's networks give the published implementation's numbers with the same weights."""

import numpy as np
import pytest
import torch

from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.inversion.features import HFGI
from tests.gan_core.encoders.test_published_encoders import filled
from tests.golden.fill import fill, golden, keys, relative_error_of


def published() -> HFGI:
    with torch.device("meta"):
        return HFGI().eval().requires_grad_(False)


def test_names_and_shapes_are_the_published_ones() -> None:
    network = published()
    listed = {
        f"{part}.{key}": shape
        for part, name in (("residue", "hfgi_residue"), ("grid_align", "hfgi_grid_align"))
        for key, shape in keys(name).items()
    }
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == listed


@pytest.mark.slow
def test_coarse_pictures_conditions_and_an_edit() -> None:
    expected = golden("hfgi-64")
    generator, network = StyleGAN2(64).eval().requires_grad_(False), published()
    filled(generator, "stylegan2", "decoder.")
    for name in ("residue", "grid_align"):
        filled(network.get_submodule(name), prefix=f"{name}.")
    images = torch.from_numpy(np.clip(0.5 * fill("input:x", (2, 3, 256, 256), rule="raw"), -1, 1))
    codes = torch.from_numpy(0.5 * fill("input:codes", (2, 10, 512), rule="raw"))
    direction = torch.from_numpy(fill("input:direction", (1, 512), rule="raw"))
    edited = codes + 3 * direction / direction.norm()
    coarse, edit_coarse = generator.synthesis(codes), generator.synthesis(edited)
    residual = network.residual(images, coarse)
    scale, shift = network.conditions(residual, coarse)
    found = {
        "coarse_256": network.look(coarse),
        "aligned_inversion": network.aligned(residual, coarse),
        "scale": scale,
        "shift": shift,
        "image": network.redrawn(generator, lambda: generator.synthesis(codes), residual),
        "edit_coarse_256": network.look(edit_coarse),
        "edit_aligned": network.aligned(residual, edit_coarse),
        "edit_image": network.redrawn(generator, lambda: generator.synthesis(edited), residual),
    }
    assert set(found) == {key.removesuffix("__sub") for key in expected[0] if key.endswith("__sub")}
    for key, value in found.items():
        assert relative_error_of(value, key, expected) < 1e-4, key
