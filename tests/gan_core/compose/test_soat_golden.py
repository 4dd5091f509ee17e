"""Every published operation of SOAT against its own numbers (stored in part: every fourth row, every third column)."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.compose.masks import box_mask, kernel_size
from gan_core.compose.operations import extend, interpolate, join, picture, transfer, translate
from gan_core.compose.panorama import panorama, smooth_z
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.generators.walk import Branch, walk
from tests.gan_core.compose.conftest import filled, raw
from tests.golden.fill import golden, relative_error

EXPECTED = golden("soat")[0]
TOLERANCE = 1e-4
BOX = (60 / 256, 80 / 256, 100 / 256, 61 / 256)


def error(actual: Tensor, name: str) -> float:
    """Return the relative error of what the golden numbers keep of an array."""
    if actual.ndim == 4:
        return relative_error(actual[..., ::4, ::3], EXPECTED[name])
    return relative_error(actual[:, ::5] if actual.shape[1] >= 512 else actual, EXPECTED[name])


@pytest.fixture(scope="module")
def branches(published: StyleGAN2) -> tuple[Branch, Branch]:
    return pair(published)


def pair(generator: StyleGAN2, source: StyleGAN2 | None = None) -> tuple[Branch, Branch]:
    """Return the golden numbers' two styles; ``source`` renders the first one, if given."""
    w = generator.mapping(raw("z", 2, 512))
    first, second = (generator.styles(generator.broadcast(w[i : i + 1])) for i in (0, 1))
    return (source or generator).branch(first), generator.branch(second)


def test_styles_and_their_truncation(published: StyleGAN2) -> None:
    w = published.mapping(raw("z", 2, 512))
    styles = published.styles(published.broadcast(w))
    assert [s.shape[1] for s in styles] == EXPECTED["get_latent/lengths"].tolist()
    assert error(w, "get_latent/w") < TOLERANCE
    assert error(torch.stack([s.sum(1) for s in styles], 1), "get_latent/sums") < TOLERANCE
    assert error(torch.cat(styles, 1), "get_latent/s") < TOLERANCE
    assert error(torch.cat(published.styles(raw("wplus", 2, 10, 512)), 1), "get_latent/s_from_wplus") < TOLERANCE


def test_truncation_of_w_is_the_published_one_of_styles(published: StyleGAN2, monkeypatch: pytest.MonkeyPatch) -> None:
    mean = published.mapping(raw("mean_z", 64, 512)).mean(0)
    monkeypatch.setitem(published._buffers, "latent_avg", mean)
    w = published.truncate(published.mapping(raw("z", 2, 512)), 0.7)
    assert error(torch.cat(published.styles(published.broadcast(w)), 1), "get_latent/s_truncated") < TOLERANCE


def test_forward_and_its_clamp(published: StyleGAN2) -> None:
    styles = published.styles(published.broadcast(published.mapping(raw("z", 2, 512))))
    assert error(picture(walk(published.branch(styles))), "forward/image") < TOLERANCE
    loud = [s[:1] * (4 if i % 3 == 1 else 1) for i, s in enumerate(styles)]
    assert error(picture(walk(published.branch(loud))), "forward/image_loud") < TOLERANCE


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
def test_generation_from_a_single_image_without_noise(published: StyleGAN2, mode: str, axis: str, name: str) -> None:
    styles = published.styles(published.broadcast(published.mapping(raw("z", 2, 512)[:1])))
    image = extend(published.branch(styles, noise="none"), mode, axis)
    assert error(image, f"singan-{name}/image") < TOLERANCE


def test_translation_between_two_generators(published: StyleGAN2) -> None:
    image = translate(*pair(filled(salt="public-b"), source=published), alpha=0.7, kept_layers=6)
    assert error(image, "two-generator-translation/image") < TOLERANCE


def test_the_mask_of_a_box() -> None:
    assert [kernel_size(61), kernel_size(100)] == EXPECTED["bbox-mask/kernel"].tolist()
    assert relative_error(box_mask([BOX])[..., ::6, ::4], EXPECTED["bbox-mask/mask"]) < TOLERANCE


def test_box_transfer_with_and_without_pose(branches: tuple[Branch, Branch]) -> None:
    mask = box_mask([BOX])
    assert error(transfer(*branches, mask, last_layer=9), "blend_bbox/image") < TOLERANCE
    assert error(transfer(*branches, mask, last_layer=99, pose_layers=()), "blend_bbox-church/image") < TOLERANCE


def test_a_panorama_of_three(published: StyleGAN2, monkeypatch: pytest.MonkeyPatch) -> None:
    mean = published.mapping(raw("mean_z", 64, 512)).mean(0)
    monkeypatch.setitem(published._buffers, "latent_avg", mean)
    z = smooth_z(torch.from_numpy(np.random.RandomState(90).randn(3, 512).astype(np.float32)))
    assert error(z, "panorama/z_smooth") < 1e-5
    w = published.truncate(published.mapping(z), 0.7)
    assert error(panorama(published, published.broadcast(w)), "panorama/panorama") < TOLERANCE


@pytest.mark.parametrize(("n", "seed"), [(2, 8), (3, 7), (5, 90)])
def test_smoothing_of_latents(n: int, seed: int) -> None:
    z = torch.from_numpy(np.random.RandomState(seed).randn(n, 512).astype(np.float32))
    assert error(smooth_z(z), f"latent-smoothing-n{n}/z_smooth") < 1e-5
