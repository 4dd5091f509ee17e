"""SNGAN, ProgGAN and BigGAN against the published implementations, with weights filled from their keys."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gan_core.errors import CheckpointError, ParamsError
from gan_core.generators.biggan import BigGAN
from gan_core.generators.biggan_deep import BigGANDeep, TruncatedNorm
from gan_core.generators.proggan import ProgGAN
from gan_core.generators.sngan import SNGAN
from gan_core.loading import load_generator
from gan_core.published.families import FamiliesLayout
from gan_core.published.generators import build_published
from gan_core.published.layouts import import_checkpoint, inspect_checkpoint
from tests.golden.families import filled, raw
from tests.golden.fill import golden, keys, relative_error

TOLERANCE = 1e-4


def image_of(generator: object, z: Tensor) -> Tensor:
    with torch.no_grad():
        return generator.draw(z)  # type: ignore[attr-defined]


def test_sngan_mnist() -> None:
    expected, _ = golden("sngan-mnist")
    generator = build_published(filled("sngan_mnist"))
    assert isinstance(generator, SNGAN)
    assert (generator.size, generator.arguments["channels"], generator.spaces) == (32, [256] * 4, ("z",))
    z = raw("z", 2, 128)
    assert relative_error(image_of(generator, z), expected["out_image"]) < TOLERANCE
    colour = generator.synthesis(generator.broadcast(generator.mapping(z)))
    assert torch.equal(colour[:, 0], colour[:, 2])


@pytest.mark.slow
def test_sngan_anime() -> None:
    expected, _ = golden("sngan-anime")
    generator = build_published(filled("sngan_anime"))
    assert (generator.size, generator.arguments["channels"]) == (64, [1024, 512, 256, 128, 64])
    assert relative_error(image_of(generator, raw("z", 2, 128))[..., ::2, ::2], expected["out_image"]) < TOLERANCE


def test_damaged_second_names_are_refused() -> None:
    state = filled("sngan_mnist")
    state["model.3.conv2.bias"] = state["model.3.conv2.bias"] + 1
    with pytest.raises(CheckpointError, match=r"model.3.conv2.bias differs from its second name"):
        build_published(state)


@pytest.fixture(scope="module")
def interfacegan_state() -> dict[str, Tensor]:
    return filled("pggan_1024_interfacegan", "equalised")


@pytest.fixture(scope="module")
def converted(interfacegan_state: dict[str, Tensor]) -> ProgGAN:
    generator = build_published(interfacegan_state)
    assert isinstance(generator, ProgGAN)
    return generator


def test_proggan_features_and_names() -> None:
    expected, _ = golden("proggan-ptrblck")
    generator = build_published(filled("proggan_1024_ptrblck", "proggan"))
    assert isinstance(generator, ProgGAN)
    assert {key: list(value.shape) for key, value in generator.state_dict().items()} == keys("proggan_1024_ptrblck")
    features = generator.maps(raw("z", 1, 512, 1, 1)[:, :, 0, 0], 8)
    assert relative_error(features[..., ::7, ::5], expected["out_features_32_sub"]) < TOLERANCE
    assert relative_error(features.flatten()[:64], expected["out_features_32_first64"]) < TOLERANCE


@pytest.mark.slow
def test_proggan_image() -> None:
    expected, _ = golden("proggan-ptrblck")
    generator = build_published(filled("proggan_1024_ptrblck", "proggan"))
    image = image_of(generator, raw("z", 1, 512))
    assert relative_error(image[..., ::17, ::11][..., ::2, ::3], expected["out_image_sub"]) < TOLERANCE


def test_the_three_layouts_of_proggan_are_one_network(
    converted: ProgGAN, interfacegan_state: dict[str, Tensor]
) -> None:
    table, _ = golden("proggan-key-conversion")
    rows = zip(table["out_keys_ptrblck"], table["out_keys_interfacegan"], table["out_keys_genforce"], strict=True)
    genforce = {}
    for ours, theirs, third in rows:
        assert torch.equal(converted.state_dict()[str(ours)], interfacegan_state[str(theirs)])
        genforce[str(third)] = interfacegan_state[str(theirs)]
    scales = [layer.wscale.scale.item() for layer in [*converted.features, converted.output]]  # type: ignore[union-attr]
    assert scales == pytest.approx(table["out_wscale"].tolist(), rel=1e-6)
    again = build_published(genforce).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in converted.state_dict().items())


@pytest.mark.slow
def test_proggan_image_from_the_interfacegan_layout(converted: ProgGAN) -> None:
    expected, _ = golden("proggan-key-conversion")
    image = image_of(converted, raw("z", 1, 512))
    assert relative_error(image[..., ::17, ::11][..., ::2, ::3], expected["out_image_sub"]) < TOLERANCE
    assert relative_error(image.flatten()[:64], expected["out_image_first64"]) < TOLERANCE


def test_biggan() -> None:
    expected, _ = golden("biggan128-tiny")
    listing = "biggan128_ajbrock_tiny_ch8_cls10"
    generator = build_published(filled(listing, "biggan"))
    assert isinstance(generator, BigGAN) and generator.label == 9
    assert {key: list(value.shape) for key, value in generator.state_dict().items()} == keys(listing)
    labels, z = torch.from_numpy(expected["in_labels"]), raw("z", 2, 120)
    image = generator.draw_labelled(z, labels)
    assert relative_error(image[..., ::3, ::2][..., ::2, ::2], expected["out_image_sub"]) < TOLERANCE
    assert relative_error(generator.shared(labels), expected["out_shared"]) < TOLERANCE
    assert torch.allclose(generator.draw(z)[0], generator.draw_labelled(z, torch.tensor([9, 9]))[0])


def test_biggan_deep() -> None:
    expected, _ = golden("biggan_deep-tiny")
    listing = "biggan_deep_128_hf_tiny_ch16_cls10"
    state, classes = filled(listing, "biggan-deep"), torch.from_numpy(expected["in_classes"])
    generator = build_published(state)
    assert isinstance(generator, BigGANDeep) and generator.truncation == 0.4
    for truncation, part in ((0.4, "image"), (0.41, "image_between")):
        generator.truncation = truncation
        image = generator.draw_labelled(generator.mapping(raw("z", 2, 128)), classes)
        assert relative_error(image.flatten()[:64], expected[f"out_{part}_first64"]) < TOLERANCE
    assert {key: list(value.shape) for key, value in generator.state_dict().items()} == keys(listing)


def test_statistics_between_two_truncations_lean_to_the_nearer() -> None:
    norm = TruncatedNorm(1)
    table = torch.arange(51.0)[:, None]
    for truncation, row in ((0.4, 20), (0.58, 29), (0.405, 20.25), (0.415, 20.75), (1.0, 50)):
        assert norm.at(truncation, table).item() == pytest.approx(row, abs=1e-3)


def test_what_is_no_published_generator_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"g.pt: no published SNGAN, ProgGAN or BigGAN generator"):
        build_published({"conv.weight": torch.zeros(1)}, "g.pt")
    state = filled("sngan_mnist")
    del state["model.4.model.0.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing \(model.4.model.0.bias\)"):
        build_published(state)


def test_a_class_that_is_not_there_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"label 10 is out of range: .* classes 0 to 9"):
        BigGAN(8, classes=10, label=10)


@pytest.mark.parametrize(
    ("truncation", "problem"), [(0.0, "needs one above 0"), (1.5, "has statistics for truncations up to 1")]
)
def test_a_truncation_without_statistics_is_refused(truncation: float, problem: str) -> None:
    with pytest.raises(ParamsError, match=f"truncation {truncation}: .*{problem}"):
        BigGANDeep(width=4, widths=(2, 2, 1), classes=2, label=0, truncation=truncation)


def test_a_latent_of_another_shape_is_refused() -> None:
    generator = SNGAN((8, 8), 1, 4)
    assert math.prod(generator.synthesis(torch.zeros(2, 1, 4)).shape) == 2 * 3 * 8 * 8
    with pytest.raises(ValueError, match=r"needs \[B, 1, 4\]"):
        generator.synthesis(torch.zeros(2, 3, 4))


def test_names_and_shapes_are_checked_before_a_generator_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FamiliesLayout, "convert", lambda *_: pytest.fail("it would take memory by the file's sizes"))
    state = {f"layer{i}.bias": torch.zeros(2500) for i in range(10)} | {"layer0.weight": torch.zeros(1, 512)}
    torch.save(state | {"output4.weight": torch.zeros(1), "output4.bias": torch.zeros(3)}, tmp_path / "published.pt")
    with pytest.raises(CheckpointError, match=r"published.pt"):
        import_checkpoint(tmp_path / "published.pt", tmp_path / "ours.safetensors")


@pytest.mark.parametrize(
    ("wrapped", "family", "licence"), [(None, "sngan", "none stated"), ("generator_smooth", "proggan", "CC BY-NC")]
)
def test_published_files_are_recognised_and_imported(
    tmp_path: Path, wrapped: str | None, family: str, licence: str
) -> None:
    torch.manual_seed(0)
    if wrapped is None:
        state = dict(SNGAN((8, 8), 1, 4).state_dict())
    else:
        ours = ProgGAN((8, 4), 6).state_dict()
        state = {f"layer{i}.weight": ours[f"features.{i}.conv.weight"] for i in range(4)}
        state |= {f"layer{i}.bias": ours[f"features.{i}.wscale.b"] for i in range(4)}
        state |= {"output1.weight": ours["output.conv.weight"], "output1.bias": ours["output.wscale.b"]}
        state |= {"lod": torch.zeros(())}
    torch.save(state if wrapped is None else {wrapped: state, "step": 3}, tmp_path / "published.pt")
    about = inspect_checkpoint(tmp_path / "published.pt")
    assert (about["layout"], about["family"]) == ("gan-families", family)
    assert licence in about["licence"]
    import_checkpoint(tmp_path / "published.pt", tmp_path / "ours.safetensors")
    generator = load_generator(tmp_path / "ours.safetensors").model
    assert (generator.family, generator.size) == (family, 8)
