"""Every published operation of SOAT against its own numbers, of a network of 64 pixels and (slow) of one of 256."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.compose.masks import box_mask, kernel_size
from gan_core.compose.operations import extend, interpolate, join, picture, swap_patches, transfer, translate
from gan_core.compose.panorama import panorama, smooth
from gan_core.generators.base import Noise
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import Branch, walk
from tests.gan_core.compose.conftest import filled, raw
from tests.golden.fill import golden, relative_error

EXPECTED = {64: golden("soat")[0], 256: golden("soat-256")[0]}
STORED = {64: (4, 3), 256: (20, 9)}
"""Every how many rows and columns of an image are stored."""
STORED_PANORAMA = {64: (4, 3), 256: (28, 15)}
TOLERANCE = 1e-4
BOX = (60 / 256, 80 / 256, 100 / 256, 61 / 256)


@pytest.fixture(scope="module", params=[64, pytest.param(256, marks=pytest.mark.slow)])
def generator(request: pytest.FixtureRequest) -> StyleGAN2:
    return filled(request.param)


@pytest.fixture(scope="module")
def branches(generator: StyleGAN2) -> tuple[Branch, Branch]:
    return pair(generator, generator)


@pytest.fixture
def centred(generator: StyleGAN2) -> Iterator[StyleGAN2]:
    """The generator with the golden numbers' mean latent."""
    before = generator.latent_avg
    generator.latent_avg = generator.mapping(raw("mean_z", 64, 512)).mean(0)
    yield generator
    generator.latent_avg = before


def pair(source: StyleGAN2, other: StyleGAN2, noise: Noise = "const") -> tuple[Branch, Branch]:
    """Return the golden numbers' two styles, both of ``other``, the first one drawn by ``source``."""
    w_plus = other.broadcast(other.mapping(raw("z", 2, 512)))
    return source.branch(other.styles(w_plus[:1]), noise), other.branch(other.styles(w_plus[1:]), noise)


def error(generator: StyleGAN2, image: Tensor, name: str, stored: dict[int, tuple[int, int]] = STORED) -> float:
    """Return the relative error of what is stored of an image."""
    rows, columns = stored[generator.size]
    return relative_error(image[..., ::rows, ::columns], EXPECTED[generator.size][name])


def error_of_vectors(vectors: Tensor, name: str) -> float:
    """Return the relative error of long vectors, of which every fifth number is stored, for the 64 pixels alone."""
    return relative_error(vectors[:, ::5], EXPECTED[64][name])


def test_the_layout_of_styles(generator: StyleGAN2) -> None:
    styles = generator.styles(generator.broadcast(generator.mapping(raw("z", 2, 512))))
    assert [s.shape[1] for s in styles] == EXPECTED[generator.size]["get_latent/lengths"].tolist()
    sums = torch.stack([s.sum(1) for s in styles], 1)
    assert relative_error(sums, EXPECTED[generator.size]["get_latent/sums"]) < TOLERANCE


def test_styles(published: StyleGAN2) -> None:
    w = published.mapping(raw("z", 2, 512))
    assert error_of_vectors(w, "get_latent/w") < TOLERANCE
    assert error_of_vectors(torch.cat(published.styles(published.broadcast(w)), 1), "get_latent/s") < TOLERANCE
    styles = published.styles(raw("wplus", 2, 10, 512))
    assert error_of_vectors(torch.cat(styles, 1), "get_latent/s_from_wplus") < TOLERANCE


def test_truncation_of_w_is_the_published_one_of_styles(published: StyleGAN2, monkeypatch: pytest.MonkeyPatch) -> None:
    mean = published.mapping(raw("mean_z", 64, 512)).mean(0)
    monkeypatch.setitem(published._buffers, "latent_avg", mean)
    w = published.truncate(published.mapping(raw("z", 2, 512)), 0.7)
    assert (
        error_of_vectors(torch.cat(published.styles(published.broadcast(w)), 1), "get_latent/s_truncated") < TOLERANCE
    )


def test_forward_and_its_clamp(generator: StyleGAN2) -> None:
    styles = generator.styles(generator.broadcast(generator.mapping(raw("z", 2, 512))))
    assert error(generator, picture(walk(generator.branch(styles))), "forward/image") < TOLERANCE
    loud = [s[:1] * (4 if i % 3 == 1 else 1) for i, s in enumerate(styles)]
    assert error(generator, picture(walk(generator.branch(loud))), "forward/image_loud") < TOLERANCE


@pytest.mark.parametrize("axis", ["vertical", "horizontal"])
def test_interpolation(generator: StyleGAN2, branches: tuple[Branch, Branch], axis: str) -> None:
    assert error(generator, interpolate(*branches, axis), f"blend-{axis}/image") < TOLERANCE


@pytest.mark.parametrize(("flat_ends", "name"), [(True, "merge_extension"), (False, "merge")])
def test_two_side_by_side(generator: StyleGAN2, branches: tuple[Branch, Branch], flat_ends: bool, name: str) -> None:
    assert error(generator, join(*branches, flat_ends=flat_ends), f"{name}/image") < TOLERANCE


@pytest.mark.parametrize(
    ("mode", "axis", "name"),
    [
        ("stretch", "horizontal", "horizontal"),
        ("stretch", "vertical", "vertical"),
        ("reflect", "horizontal", "reflect"),
    ],
)
def test_generation_from_a_single_image_without_noise(generator: StyleGAN2, mode: str, axis: str, name: str) -> None:
    image = extend(pair(generator, generator, "none")[0], mode, axis)
    assert error(generator, image, f"singan-{name}/image") < TOLERANCE


def test_translation_between_two_generators(generator: StyleGAN2) -> None:
    image = translate(*pair(generator, filled(generator.size, "public-b")), alpha=0.7, kept_layers=6)
    assert error(generator, image, "two-generator-translation/image") < TOLERANCE


def test_the_mask_of_a_box() -> None:
    assert [kernel_size(61), kernel_size(100)] == EXPECTED[64]["bbox-mask/kernel"].tolist()
    assert relative_error(box_mask([BOX])[..., ::6, ::4], EXPECTED[64]["bbox-mask/mask"]) < TOLERANCE


def test_box_transfer_with_and_without_pose(generator: StyleGAN2, branches: tuple[Branch, Branch]) -> None:
    mask = box_mask([BOX])
    assert error(generator, transfer(*branches, mask, last_layer=9), "blend_bbox/image") < TOLERANCE
    everywhere = transfer(*branches, mask, last_layer=99, pose_layers=())
    assert error(generator, everywhere, "blend_bbox-church/image") < TOLERANCE


@pytest.mark.slow
def test_patches_swapped() -> None:
    generator, boxes = filled(256), [(0.25, 0.25, 0.25, 0.25), (128 / 256, 120 / 256, 64 / 256, 48 / 256)]
    image = swap_patches(*pair(generator, generator), *boxes)
    assert relative_error(image[..., ::10, ::6], EXPECTED[64]["patch_swap/image"]) < TOLERANCE


def published_smoothing(z: Tensor) -> Tensor:
    soft = smooth(z)
    return soft / soft.square().mean().sqrt()


def test_a_panorama_of_three(centred: StyleGAN2) -> None:
    z = published_smoothing(torch.from_numpy(np.random.RandomState(90).randn(3, 512).astype(np.float32)))
    assert error_of_vectors(z, "panorama/z_smooth") < 1e-5
    w_plus = centred.broadcast(centred.truncate(centred.mapping(z), 0.7))
    assert error(centred, panorama(centred, w_plus), "panorama/panorama", STORED_PANORAMA) < TOLERANCE


@pytest.mark.parametrize(("n", "seed"), [(2, 8), (3, 7), (5, 90)])
def test_smoothing_of_latents(n: int, seed: int) -> None:
    z = torch.from_numpy(np.random.RandomState(seed).randn(n, 512).astype(np.float32))
    assert error_of_vectors(published_smoothing(z), f"latent-smoothing-n{n}/z_smooth") < 1e-5
