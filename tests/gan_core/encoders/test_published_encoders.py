"""Every encoder gives the published implementation's numbers with the same weights."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gan_core.encoders.base import ENCODERS, Encoder
from gan_core.encoders.e4e import LatentDiscriminator, delta_norms
from gan_core.encoders.transformer import DecoderLayer
from gan_core.generators.stylegan2 import StyleGAN2
from tests.golden.fill import fill, fill_state, golden, keys, relative_error

PARAMETERS = {"psp": 267_136_704, "e4e": 267_136_704, "style-transformer": 40_620_224 + 2_101_248}
LISTINGS = {
    "psp-w": "psp_backbone_w",
    "psp-w-plus": "psp_backbone_w_plus",
    "style-transformer": "style_transformer_encoder",
}


def filled(model: nn.Module, rule: str = "psp", prefix: str = "", skip: str = "-") -> None:
    """Give a module the weights of the golden numbers, by its own names: a wrong name gives other weights."""
    shapes = {prefix + key: list(value.shape) for key, value in model.state_dict().items() if not key.startswith(skip)}
    state = {key.removeprefix(prefix): torch.from_numpy(x) for key, x in fill_state(shapes, rule=rule).items()}
    counters = {key: torch.tensor(0) for key in model.state_dict() if key.endswith("num_batches_tracked")}
    kernels = {key: value for key, value in model.state_dict().items() if key.endswith("kernel")}
    model.load_state_dict(state | counters | kernels, strict=False, assign=True)
    model.requires_grad_(False)


def images() -> Tensor:
    return torch.from_numpy(np.clip(0.5 * fill("input:x", (2, 3, 256, 256), rule="raw"), -1, 1))


def build(name: str, n_latent: int = 18) -> Encoder:
    """Build at full size without the minute that drawing random weights takes."""
    with torch.device("meta"):
        encoder = ENCODERS.get(name)(n_latent).eval().requires_grad_(False)  # type: ignore[call-arg]
    return encoder


@pytest.mark.parametrize("name", LISTINGS)
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    state = build(name).state_dict()
    listed = {key: list(value.shape) for key, value in state.items() if not key.startswith("style.")}
    assert listed == keys(LISTINGS[name])


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_full_size_has_the_published_number_of_parameters(name: str) -> None:
    encoder = build(name)
    assert sum(p.numel() for p in encoder.parameters()) == PARAMETERS[name]


@pytest.mark.slow
@pytest.mark.parametrize("space", ["w", "w_plus"])
def test_the_last_layer_baselines(space: str) -> None:
    encoder = build(f"psp-{space.replace('_', '-')}")
    filled(encoder)
    codes = encoder(images())
    expected, _ = golden(f"psp-backbone-{space}")
    assert relative_error(codes[:, 0] if space == "w" else codes, expected["codes"]) < 1e-4


@pytest.mark.slow
def test_e4e_at_its_stages() -> None:
    encoder = build("e4e", 14)
    filled(encoder)
    expected, _ = golden("e4e-encoder")
    for stage, name in ((0, "codes_stage0"), (5, "codes_stage5"), (13, "codes_all")):
        encoder.stage = stage  # type: ignore[assignment]
        assert relative_error(encoder(images()), expected[name]) < 1e-4, stage


def test_the_delta_regulariser_of_e4e() -> None:
    codes = torch.from_numpy(golden("e4e-encoder")[0]["codes_all"])
    expected, _ = golden("e4e-delta-regulariser")
    for stage in (5, 13):
        norms = delta_norms(codes, stage)
        assert relative_error(norms, expected[f"norms_stage{stage}"]) < 1e-4
        assert relative_error(2e-4 * norms.sum(), expected[f"loss_stage{stage}"]) < 1e-4


def test_the_latent_discriminator_of_e4e() -> None:
    discriminator = LatentDiscriminator()
    assert {k: list(v.shape) for k, v in discriminator.state_dict().items()} == keys("e4e_latent_discriminator")
    filled(discriminator, "plain")
    expected, _ = golden("e4e-latent-discriminator")
    for name, key in (("fake", "input:w"), ("real", "input:w_real")):
        logits = discriminator(torch.from_numpy(fill(key, (4, 512), rule="raw")))
        assert relative_error(logits.detach(), expected[f"{name}_logits"]) < 1e-4


@pytest.mark.slow
def test_style_transformer_with_a_small_generator() -> None:
    encoder, generator = build("style-transformer"), StyleGAN2(64).eval().requires_grad_(False)
    filled(encoder, prefix="encoder.", skip="style.")
    filled(generator, "stylegan2", "decoder.")
    encoder.style.load_state_dict(generator.style.state_dict(), assign=True)  # type: ignore[union-attr]
    expected, _ = golden("style-transformer-encoder")
    assert relative_error(encoder.queries()[0], expected["queries"]) < 1e-4  # type: ignore[operator]
    codes = encoder(images())
    assert relative_error(codes, expected["codes"]) < 1e-4
    average = 0.5 * torch.from_numpy(fill("input:latent_avg", (512,), rule="raw"))
    image = generator.synthesis(codes[:1, :10] + average)
    assert relative_error(image, expected["image"]) < 1e-4


def test_the_edit_block_of_style_transformer() -> None:
    block = DecoderLayer().eval().requires_grad_(False)
    listed = keys("style_transformer_edit_encoder")
    assert {f"transformerlayer.{key}": list(x.shape) for key, x in block.state_dict().items()} == listed
    filled(block, "plain", "transformerlayer.")
    source, reference = (
        torch.from_numpy(fill(f"input:{name}", (2, 18, 512), rule="raw")) for name in ("source", "reference")
    )
    expected, _ = golden("style-transformer-edit-block")
    assert relative_error(block(source, reference), expected["codes"]) < 1e-4
