"""The published operations at their full size of 256 pixels (every 20th row, every 9th column is stored)."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.compose.masks import box_mask
from gan_core.compose.operations import extend, interpolate, join, picture, swap_patches, transfer, translate
from gan_core.compose.panorama import panorama, smooth_z
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import Branch, walk
from tests.gan_core.compose.conftest import filled, raw
from tests.golden.fill import golden, relative_error

EXPECTED = golden("soat-256")[0]
TOLERANCE = 1e-4
BOX = (60 / 256, 80 / 256, 100 / 256, 61 / 256)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def generator() -> StyleGAN2:
    return filled(256)


@pytest.fixture(scope="module")
def branches(generator: StyleGAN2) -> tuple[Branch, Branch]:
    return pair(generator, generator)


def pair(source: StyleGAN2, other: StyleGAN2, noise: str = "const") -> tuple[Branch, Branch]:
    """Return the golden numbers' two styles, both of ``other``, the first one drawn by ``source``."""
    w_plus = other.broadcast(other.mapping(raw("z", 2, 512)))
    return source.branch(other.styles(w_plus[:1]), noise), other.branch(other.styles(w_plus[1:]), noise)


def error(actual: Tensor, name: str, rows: int = 20, columns: int = 9) -> float:
    """Return the relative error of what the golden numbers keep of an image."""
    return relative_error(actual[..., ::rows, ::columns], EXPECTED[name])


def test_the_layout_of_styles(generator: StyleGAN2) -> None:
    styles = generator.styles(generator.broadcast(generator.mapping(raw("z", 2, 512))))
    assert [s.shape[1] for s in styles] == EXPECTED["get_latent/lengths"].tolist()
    assert relative_error(torch.stack([s.sum(1) for s in styles], 1), EXPECTED["get_latent/sums"]) < TOLERANCE


def test_forward(branches: tuple[Branch, Branch]) -> None:
    assert error(torch.cat([picture(walk(branch)) for branch in branches]), "forward/image") < TOLERANCE


@pytest.mark.parametrize("axis", ["vertical", "horizontal"])
def test_interpolation(branches: tuple[Branch, Branch], axis: str) -> None:
    assert error(interpolate(*branches, axis), f"blend-{axis}/image") < TOLERANCE


@pytest.mark.parametrize(("flat_ends", "name"), [(True, "merge_extension"), (False, "merge")])
def test_two_side_by_side(branches: tuple[Branch, Branch], flat_ends: bool, name: str) -> None:
    assert error(join(*branches, flat_ends=flat_ends), f"{name}/image") < TOLERANCE


@pytest.mark.parametrize(
    ("mode", "axis", "name"),
    [
        ("stretch", "horizontal", "horizontal"),
        ("stretch", "vertical", "vertical"),
        ("reflect", "horizontal", "reflect"),
    ],
)
def test_a_single_image_without_noise(generator: StyleGAN2, mode: str, axis: str, name: str) -> None:
    image = extend(pair(generator, generator, "none")[0], mode, axis)
    assert error(image, f"singan-{name}/image") < TOLERANCE


def test_box_transfer_with_and_without_pose(branches: tuple[Branch, Branch]) -> None:
    mask = box_mask([BOX])
    assert error(transfer(*branches, mask, last_layer=9), "blend_bbox/image") < TOLERANCE
    assert error(transfer(*branches, mask, last_layer=99, pose_layers=()), "blend_bbox-church/image") < TOLERANCE


def test_patches_swapped(branches: tuple[Branch, Branch]) -> None:
    boxes = [(0.25, 0.25, 0.25, 0.25), (128 / 256, 120 / 256, 64 / 256, 48 / 256)]
    expected = golden("soat")[0]["patch_swap/image"]
    assert relative_error(swap_patches(*branches, *boxes)[..., ::10, ::6], expected) < TOLERANCE


def test_translation_between_two_generators(generator: StyleGAN2) -> None:
    image = translate(*pair(generator, filled(256, "public-b")), alpha=0.7, kept_layers=6)
    assert error(image, "two-generator-translation/image") < TOLERANCE


@pytest.fixture
def centred(generator: StyleGAN2) -> Iterator[StyleGAN2]:
    """The generator with the golden numbers' mean latent."""
    before = generator.latent_avg
    generator.latent_avg = generator.mapping(raw("mean_z", 64, 512)).mean(0)
    yield generator
    generator.latent_avg = before


def test_a_panorama_of_three(centred: StyleGAN2) -> None:
    z = smooth_z(torch.from_numpy(np.random.RandomState(90).randn(3, 512).astype(np.float32)))
    w_plus = centred.broadcast(centred.truncate(centred.mapping(z), 0.7))
    assert error(panorama(centred, w_plus), "panorama/panorama", 28, 15) < TOLERANCE
