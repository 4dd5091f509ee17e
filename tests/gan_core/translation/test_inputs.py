import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.errors import ParamsError
from gan_core.judges.segmenter import LABELS
from gan_core.storage.images import ImageError, encode_png, image_value, to_tensor, to_uint8
from gan_core.toy.renderer import SEGMENTATION_LABELS, Portraits, render, sample_factors
from gan_core.translation.inputs import (
    INPUTS,
    LabelInput,
    check_factors,
    draw_sketch,
    label_cell,
    mirror_labels,
    one_hot,
)
from gan_core.translation.masks import MASKS, draw_mask, hide

CLASSES = len(SEGMENTATION_LABELS)


@pytest.fixture(scope="module")
def portraits() -> Portraits:
    return render(sample_factors(range(3)))


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cell(pixels: np.ndarray) -> dict[str, Any]:
    return image_value(encode_png(pixels), "")


@pytest.mark.parametrize("name", INPUTS.names())
def test_what_is_made_has_the_channels_and_follows_from_the_stream(name: str, portraits: Portraits) -> None:
    transform = INPUTS.get(name)(factors=(2, 8), masks=("box", "strokes"))
    made = [transform.make(portraits.image[0], portraits.segmentation[0], stream(seed)).tensor for seed in (1, 1, 3)]
    assert made[0].shape == (transform.channels, 64, 64) and made[0].dtype == torch.float32
    assert torch.equal(made[0], made[1])
    assert (name in ("low-resolution", "masked")) == (not torch.equal(made[0], made[2]))
    shown = transform.show(made[0][None])
    assert shown.shape == (1, 3, 64, 64) and shown.abs().max() <= 1


@pytest.mark.parametrize("name", ["picture", "labels", "sketch"])
def test_what_is_read_is_what_was_made(name: str, portraits: Portraits) -> None:
    transform = INPUTS.get(name)()
    image = to_tensor(list(to_uint8(portraits.image)))[0]
    made = transform.make(image, portraits.segmentation[0], stream()).tensor
    stored = {
        "picture": to_uint8(image[None])[0],
        "labels": portraits.segmentation[0].numpy()[..., None].repeat(3, 2),
        "sketch": (made[0] * 255).byte().numpy()[..., None].repeat(3, 2) if name == "sketch" else None,
    }[name]
    assert stored is not None
    assert torch.allclose(transform.read({"x": cell(stored)}, "x", 64).tensor, made, atol=1 / 255)


def test_the_classes_of_the_segmenter_are_those_that_the_renderer_draws() -> None:
    assert LABELS == SEGMENTATION_LABELS


def test_lines_lie_where_a_label_differs_from_the_one_above_or_to_its_left() -> None:
    labels = torch.tensor([[[0, 0, 1], [0, 0, 1], [2, 2, 1]]])
    assert draw_sketch(labels)[0, 0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_the_sketch_is_nearly_the_renderers(portraits: Portraits) -> None:
    ours = draw_sketch(portraits.segmentation)
    assert ours.shape == portraits.sketch.shape
    assert set(ours.unique().tolist()) == {0.0, 1.0}
    near = torch.nn.functional.max_pool2d(1 - portraits.sketch, 3, stride=1, padding=1) > 0
    assert (near | (ours == 1)).float().mean() > 0.99, "each line lies on or next to one of the renderer's"


def test_a_one_hot_map_has_one_class_a_pixel(portraits: Portraits) -> None:
    maps = one_hot(portraits.segmentation, CLASSES)
    assert maps.shape == (3, CLASSES, 64, 64)
    assert torch.equal(maps.sum(1), torch.ones(3, 64, 64))
    assert torch.equal(maps.argmax(1), portraits.segmentation.long())


def test_label_maps_are_shrunk_by_class_or_as_published_by_number() -> None:
    ids = np.zeros((512, 512, 3), np.uint8)
    ids[:, 255:] = 6  # the border lies inside a pixel of the small map
    row = {"x": cell(ids)}
    nearest = label_cell(row, "x", 256, CLASSES)
    assert nearest.unique().tolist() == [0, 6]
    expected = np.asarray(Image.fromarray(ids[..., 0]).resize((256, 256), Image.Resampling.BILINEAR))
    published = label_cell(row, "x", 256, CLASSES, "bilinear")
    assert np.array_equal(published.numpy(), expected) and set(published.unique().tolist()) - {0, 6}
    seen = LabelInput(resampling="bilinear").read(row, "x", 256).tensor
    assert torch.equal(seen.argmax(0), published.long()) and torch.equal(seen.sum(0), torch.ones(256, 256))
    assert torch.equal(LabelInput().read(row, "x", 256).tensor.argmax(0), nearest.long())
    assert torch.equal(label_cell(row, "x", 512, CLASSES, "bilinear"), label_cell(row, "x", 512, CLASSES))


def test_label_maps_of_16_bits_hold_ids_too() -> None:
    ids = np.arange(64 * 64).reshape(64, 64) % CLASSES
    maps = {bits: io.BytesIO() for bits in (8, 16)}
    for bits, file in maps.items():
        Image.fromarray(ids.astype(f"uint{bits}")).save(file, "PNG")
    read = [label_cell({"x": image_value(file.getvalue(), "")}, "x", 64, CLASSES) for file in maps.values()]
    assert all(np.array_equal(found.numpy(), ids) for found in read)
    file = io.BytesIO()
    Image.fromarray((ids * 257).astype(np.uint16)).save(file, "PNG")
    with pytest.raises(ImageError, match="bad_labels: the label map has class 3084, but classes are 0 to 12"):
        label_cell({"x": image_value(file.getvalue(), "")}, "x", 64, CLASSES)


def test_mirrored_labels_are_those_of_the_mirrored_head(portraits: Portraits) -> None:
    labels = portraits.segmentation
    mirrored = mirror_labels(labels)
    left, right = (SEGMENTATION_LABELS.index(name) for name in ("left_eye", "right_eye"))
    assert torch.equal(mirrored == left, (labels == right).flip(-1))
    assert torch.equal(mirror_labels(mirrored), labels)


def test_a_small_picture_tells_its_factor() -> None:
    transform = INPUTS.get("low-resolution")()
    seen = transform.read({"x": cell(np.full((8, 8, 3), 90, np.uint8))}, "x", 64)
    assert (seen.factor, seen.tensor.shape) == (8, (3, 64, 64))
    with pytest.raises(ImageError, match="bad_size: a small picture of 24x24 pixels: its side must divide 64"):
        transform.read({"x": cell(np.zeros((24, 24, 3), np.uint8))}, "x", 64)
    with pytest.raises(ImageError, match="bad_size: a small picture of 1x1 pixels: the factor 64 leaves too little"):
        transform.read({"x": cell(np.zeros((1, 1, 3), np.uint8))}, "x", 64)


@pytest.mark.parametrize("name", MASKS.names())
def test_masks_hide_a_part_and_follow_from_the_stream(name: str) -> None:
    first, again = draw_mask(name, 64, stream(2)), draw_mask(name, 64, stream(2))
    assert first.shape == (64, 64) and first.dtype == torch.bool
    assert torch.equal(first, again)
    assert 0.03 < first.float().mean() < 0.7


def test_hiding_leaves_the_rest_as_it_was() -> None:
    images, hidden = torch.rand(2, 3, 64, 64) + 0.1, draw_mask("box", 64, stream())
    seen = hide(images, hidden)
    assert not seen[:, :, hidden].any()
    assert torch.equal(seen[:, :, ~hidden], images[:, :, ~hidden])


BAD: dict[str, tuple[str, dict[str, np.ndarray], str]] = {
    "an unknown class": ("labels", {"x": np.full((64, 64, 3), CLASSES, np.uint8)}, "bad_labels: .*class 13.*0 to 12"),
    "a coloured label map": ("labels", {"x": np.eye(64, dtype=np.uint8)[..., None] * [1, 2, 3]}, "bad_labels: .*grey"),
    "a wide label map": ("labels", {"x": np.zeros((32, 64, 3), np.uint8)}, "bad_size: 64x32.*square"),
    "a wide picture": ("picture", {"x": np.zeros((32, 64, 3), np.uint8)}, "bad_size: 64x32.*aligned, square"),
    "a mask over everything": (
        "masked",
        {"x": np.zeros((64, 64, 3), np.uint8), "mask": np.full((64, 64, 3), 255, np.uint8)},
        "bad_mask: the mask covers the whole picture",
    ),
    "a mask over nothing": (
        "masked",
        {"x": np.zeros((64, 64, 3), np.uint8), "mask": np.full((64, 64, 3), 127, np.uint8)},
        "bad_mask: the mask covers nothing",
    ),
    "a wide mask": (
        "masked",
        {"x": np.zeros((64, 64, 3), np.uint8), "mask": np.full((32, 128, 3), 255, np.uint8)},
        "bad_size: a mask of 128x32 pixels",
    ),
    "no mask": ("masked", {"x": np.zeros((64, 64, 3), np.uint8)}, "empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_rows_fault_is_said_in_one_sentence(case: str) -> None:
    name, pixels, reason = BAD[case]
    with pytest.raises(ImageError, match=reason):
        INPUTS.get(name)().read({column: cell(p.astype(np.uint8)) for column, p in pixels.items()}, "x", 64)


def test_a_parameters_fault_is_said_in_one_sentence() -> None:
    with pytest.raises(ParamsError, match="unknown mask 'bx'; did you mean 'box'"):
        draw_mask("bx", 64, stream())
    with pytest.raises(ParamsError, match="the factor 6 doesn't divide 64x64"):
        check_factors([2, 6], 64)
    with pytest.raises(ParamsError, match="covers the whole picture"):
        hide(torch.zeros(1, 3, 4, 4), torch.ones(4, 4, dtype=torch.bool))
    with pytest.raises(ParamsError, match=r"the mask has \[4, 4\] pixels, the picture \[8, 8\]"):
        hide(torch.zeros(1, 3, 8, 8), torch.zeros(4, 4, dtype=torch.bool))
