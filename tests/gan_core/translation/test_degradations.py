import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.errors import ParamsError
from gan_core.storage.images import to_tensor
from gan_core.translation.degradations import bicubic_taps, degrade, reduce_bicubic, reduce_pixels
from tests.golden.fill import golden, relative_error


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_filter_and_the_small_pictures_are_the_published_ones(factor: int) -> None:
    expected, _ = golden("superres-degradation")
    assert relative_error(bicubic_taps(factor), expected[f"taps{factor}"]) < 1e-6
    small = reduce_pixels(expected["image"], factor).astype(int)
    off = np.abs(small - expected[f"pil{factor}"])
    image = torch.from_numpy(expected["image"]).permute(2, 0, 1)[None].double()
    whole = reduce_bicubic(image, factor)[0].permute(1, 2, 0).numpy()
    certain = np.abs(whole - whole.round()) > 1e-3  # the code cuts to integers: elsewhere rounding decides
    assert off.max() <= 1 and not off[certain].any() and certain.mean() > 0.95


def test_values_before_clamping_are_the_published_ones() -> None:
    expected, _ = golden("superres-degradation")
    image = torch.from_numpy(expected["image"]).permute(2, 0, 1)[None].float() / 255
    assert relative_error(reduce_bicubic(image, 4)[0], expected["down4"]) < 1e-4


@pytest.mark.parametrize("factor", [2, 4])
def test_the_picture_that_the_encoder_sees_is_the_published_one(factor: int) -> None:
    expected, _ = golden("superres-degradation")
    small = Image.fromarray(reduce_pixels(expected["image"], factor))
    seen = np.asarray(small.resize((256, 256), Image.Resampling.BILINEAR))[::4, ::4].astype(int)
    assert np.abs(seen - expected[f"resized{factor}"]).max() <= 1


def test_degrading_keeps_the_size_and_takes_detail_away() -> None:
    image = to_tensor([golden("superres-degradation")[0]["image"][:64, :64]])
    lost = [(degrade(image, factor) - image).square().mean().item() for factor in (2, 4, 8, 16)]
    assert degrade(image, 8).shape == image.shape
    assert lost == sorted(lost)
    assert (degrade(image, 1) - image).abs().max() > 0.1, "factor 1 moves the picture by half a pixel"


@pytest.mark.parametrize(("factor", "reason"), [(3, "doesn't divide 64x64"), (0, "doesn't divide"), (64, "too little")])
def test_a_factor_that_cannot_be_is_said_in_one_sentence(factor: int, reason: str) -> None:
    with pytest.raises(ParamsError, match=reason):
        reduce_bicubic(torch.zeros(1, 3, 64, 64), factor)
