"""How pictures are framed: which part of a picture an encoder sees, how large it is, and where it is pasted back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.align.framing import Framing, complete_sizes, framing_of
from gan_core.align.paste import paste_face
from gan_core.checkpoints.files import Card, save_checkpoint
from gan_core.encoders.base import ENCODERS
from gan_core.errors import ParamsError
from gan_core.geometry import SQUARE, Frame, average_down, framed_like
from gan_core.loading import model_tensors
from gan_core.params import AlignParams, Params, check_params
from gan_core.rows import Rejected, Row
from gan_core.stages.align import AlignStage
from gan_core.storage.images import decode_image, encode_png, image_value

CARS = Frame(192, 256)
FACE = np.array([[200.0, 180.0], [280.0, 184.0], [240.0, 230.0], [212.0, 270.0], [268.0, 272.0]])


def picture(width: int, height: int) -> Image.Image:
    """Return a picture whose every row and column differs."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 / width, y * 255 / height, 255 * ((x // 16 + y // 16) % 2)]
    return Image.fromarray(np.uint8(np.stack(channels, 2)))


def align(image: Image.Image, framing: Framing, **params: Any) -> Row:
    landmarks = None if params.get("landmarks") in ("centre", "aligned") else FACE
    row = {"key": "car.png", "image": image_value(encode_png(np.asarray(image)), ""), "landmarks": landmarks}
    (result,) = AlignStage("", AlignParams(**params), framing=framing).process([row])
    assert not isinstance(result, Rejected)
    return result


def pixels(cell: Any) -> np.ndarray:
    return np.asarray(decode_image(cell["bytes"], 1 << 24))


@pytest.mark.parametrize(
    ("frame", "side", "rows", "columns"),
    [
        (CARS, 512, (64, 448), (0, 512)),  # e4e's inference saves these rows
        (CARS, 256, (32, 224), (0, 256)),  # and its training compares these
        (Frame(256, 192), 64, (0, 64), (8, 56)),
        (SQUARE, 64, (0, 64), (0, 64)),
    ],
)
def test_a_frame_is_the_published_rows(frame: Frame, side: int, rows: Any, columns: Any) -> None:
    square = torch.arange(side * side).reshape(1, 1, side, side)
    assert torch.equal(frame.crop(square), square[..., slice(*rows), slice(*columns)])
    assert frame.shape(side) == (rows[1] - rows[0], columns[1] - columns[0])


def test_pictures_that_are_no_squares_are_framed_already() -> None:
    wide = torch.zeros(1, 3, 48, 64)
    assert CARS.crop(wide) is wide


def test_squares_are_compared_with_smaller_targets_in_their_frame() -> None:
    squares = torch.rand(2, 3, 64, 64)
    assert framed_like(squares, squares) is squares
    expected = torch.nn.functional.avg_pool2d(squares[:, :, 8:56], 2)
    assert torch.allclose(framed_like(squares, torch.zeros(2, 3, 24, 32)), expected, atol=1e-6)
    assert average_down(squares, (64, 64)) is squares


def test_the_middle_of_a_picture_is_the_largest_part_with_the_frames_proportion() -> None:
    framing, sizes = Framing(CARS), {"landmarks": "centre", "size": 512, "transform_size": 512}
    car = picture(512, 384)
    padded = Image.new("RGB", (512, 512))
    padded.paste(car, (0, 64))
    for source, top in ((car, -0.5), (padded, 63.5)):
        row = align(source, framing, **sizes)
        assert np.array_equal(pixels(row["image"]), np.asarray(car))
        np.testing.assert_allclose(
            row["quad"], [[-0.5, top], [-0.5, top + 384], [511.5, top + 384], [511.5, top]], atol=1e-4
        )
    wide, tall = (align(picture(*size), framing, **sizes)["quad"] for size in ((640, 384), (300, 900)))
    np.testing.assert_allclose(wide[[0, 2]], [[63.5, -0.5], [575.5, 383.5]], atol=1e-4)
    np.testing.assert_allclose(tall[[0, 2]], [[-0.5, 337], [299.5, 562]], atol=1e-4)


def test_sampling_at_more_pixels_darkens_no_edge() -> None:
    white = Image.new("RGB", (512, 384), "white")
    assert pixels(align(white, Framing(CARS), landmarks="centre", size=512)["image"]).min() >= 254


def test_a_face_is_framed_by_the_middle_of_its_square() -> None:
    whole = align(picture(512, 512), Framing(), size=128, transform_size=128)
    framed = align(picture(512, 512), Framing(CARS), size=128, transform_size=128)
    difference = np.abs(pixels(framed["image"]).astype(int) - pixels(whole["image"])[16:112])
    assert pixels(framed["image"]).shape == (96, 128, 3) and np.mean(difference > 1) < 0.01
    across, down = whole["quad"][3] - whole["quad"][0], whole["quad"][1] - whole["quad"][0]
    np.testing.assert_allclose(framed["quad"][0], whole["quad"][0] + down / 8, atol=1e-3)
    np.testing.assert_allclose(framed["quad"][2], whole["quad"][0] + across + down * 7 / 8, atol=1e-3)


@pytest.mark.parametrize(
    ("size", "framing", "shape"),
    [
        ((1024, 1024), Framing(SQUARE, 256, 256, (256, 256)), (256, 256)),  # FFHQ's files before a smaller generator
        ((256, 256), Framing(SQUARE, 1024, 1024, (256, 256)), (1024, 1024)),
        ((400, 300), Framing(CARS, 512, 512, (192, 256)), (384, 512)),
        ((333, 250), Framing(SQUARE, 256, 256, (256, 256)), (256, 256)),  # churches: the whole picture, squeezed
    ],
)
def test_an_aligned_picture_is_taken_whole_as_published_loaders_do(size: Any, framing: Framing, shape: Any) -> None:
    source = picture(*size)
    row = align(source, framing, landmarks="aligned")
    height, width = shape
    expected = source if source.size == (width, height) else source.resize((width, height), Image.Resampling.BILINEAR)
    assert np.array_equal(pixels(row["image"]), np.asarray(expected))
    seen = source.resize(tuple(reversed(framing.seen or ())), Image.Resampling.BILINEAR)
    assert np.array_equal(pixels(row["encoder_input"]), np.asarray(seen))
    np.testing.assert_allclose(row["quad"][[0, 2]], [[-0.5, -0.5], [size[0] - 0.5, size[1] - 0.5]])
    assert row["landmarks"] is None


def test_the_identity_names_the_frame_and_what_the_encoder_sees() -> None:
    sizes = complete_sizes(AlignParams(), 64)
    assert sizes == AlignParams(size=64, transform_size=256)
    assert AlignStage("", AlignParams(), framing=Framing(CARS)).identity() == {
        "params": sizes.model_dump(),
        "frame": [192, 256],
    }
    named = AlignStage("", AlignParams(landmarks="aligned"), framing=Framing(seen=(256, 256)))
    assert named.identity()["encoder_input"] == [256, 256]
    assert [field.name for field in named.fields] == ["image", "landmarks", "quad", "encoder_input"]


def test_faces_are_not_sampled_at_fewer_pixels_than_they_have() -> None:
    with pytest.raises(ParamsError, match=r"align\.transform_size is 256, less than align\.size \(1024\)"):
        AlignStage("", AlignParams(size=1024, transform_size=256))
    assert complete_sizes(AlignParams(size=1024), 64).transform_size == 4096
    assert complete_sizes(AlignParams(transform_size=256), 256) == AlignParams(size=256, transform_size=256)


@pytest.mark.parametrize("sizes", [{"size": 8192}, {"size": 64, "transform_size": 10**9}])
def test_sizes_that_no_stage_could_use_are_refused_in_a_line(sizes: dict[str, int]) -> None:
    with pytest.raises(ParamsError, match="at most 4096 and 16384 px are possible") as error:
        AlignStage("", AlignParams(**sizes))
    assert len(str(error.value)) < 200


@pytest.fixture
def params(tiny_models: dict[str, str], tmp_path: Path) -> Params:
    """Parameters of a generator of 64 px and an encoder that sees 96 x 128."""
    encoder = ENCODERS.get("psp-w")(10, 16, [96, 128], (1, 1, 1, 1), 4)  # type: ignore[call-arg]
    about: dict[str, Any] = {"made_by": "tests", "licence": "none", "source": "random"}
    card = Card(kind="encoder", name="psp-w", arguments=encoder.arguments, **about)
    save_checkpoint(tmp_path / "wide.safetensors", model_tensors(encoder), card)
    return check_params({"models": tiny_models | {"encoder": str(tmp_path / "wide.safetensors")}})


def test_sizes_that_are_not_set_are_those_of_the_networks(params: Params, tiny_models: dict[str, str]) -> None:
    wide = Framing(Frame(96, 128), 64, 128, (96, 128))
    assert framing_of(params) == wide and wide.compared == (48, 64)
    whole = framing_of(params.model_copy(update={"align": AlignParams(landmarks="aligned")}))
    assert whole == Framing(Frame(96, 128), 64, 64, (96, 128)) and whole.compared is None  # not enlarged and reduced
    square = params.model_copy(update={"models": params.models.model_copy(update={"encoder": tiny_models["encoder"]})})
    assert framing_of(square) == Framing(Frame(64, 64), 64, 64, (64, 64)) and framing_of(square).compared is None
    stated = square.model_copy(update={"align": AlignParams(size=32)})
    assert framing_of(stated).aligned == 32 and framing_of(stated).compared == (32, 32)
    with pytest.raises(ParamsError, match=r"align\.size is 16, too little to compare pictures with the generator's 64"):
        framing_of(square.model_copy(update={"align": AlignParams(size=16)}))
    assert framing_of(check_params({"models": {"generator": "absent", "encoder": "absent"}})) == Framing()


def test_a_picture_is_pasted_into_a_rectangle_and_a_squeezed_one_is_stretched() -> None:
    photo, frame = Image.new("RGB", (120, 90)), [[9.5, 4.5], [9.5, 64.5], [89.5, 64.5], [89.5, 4.5]]
    for face in (picture(160, 120), picture(64, 64)):
        pasted = np.asarray(paste_face(photo, face, frame, 0.0)).astype(int)
        expected = np.asarray(face.resize((80, 60), Image.Resampling.LANCZOS)).astype(int)
        assert (pasted[:5] == 0).all() and (pasted[65:] == 0).all() and (pasted[:, 90:] == 0).all()
        inside = pasted[5:65, 10:90]
        assert np.abs(inside - expected)[..., :2].max() <= 8 and np.abs(inside - expected).mean() < 6
