"""StyleGAN2 against the published implementation, with weights filled from their keys."""

import pytest
import torch
from torch import Tensor

from gan_core.generators.discriminator import Discriminator
from gan_core.generators.layers import StyledConv, upfirdn2d
from gan_core.generators.stylegan2 import StyleGAN2
from gan_core.precision import has_bfloat16, set_precision
from tests.golden.fill import fill, fill_state, golden, keys, relative_error

TOLERANCE = 1e-4
TOY_CHANNELS = {4: 32, 8: 32, 16: 16, 32: 16}


def load_filled(network: torch.nn.Module, listing: str) -> None:
    state = fill_state(keys(listing), rule="stylegan2")
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=False)
    network.eval()


def raw(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(fill(f"input:{name}", shape, rule="raw"))


@pytest.fixture(scope="module")
def generator() -> StyleGAN2:
    generator = StyleGAN2(64)
    load_filled(generator, "rosinality_generator_64_cm2")
    return generator.requires_grad_(False)


@pytest.fixture(scope="module")
def discriminator() -> Discriminator:
    discriminator = Discriminator(64)
    load_filled(discriminator, "rosinality_discriminator_64_cm2")
    return discriminator


@pytest.mark.parametrize("case", golden("upfirdn2d")[1]["cases"], ids=lambda case: case["output"])
def test_upfirdn2d_equals_the_published_operator(case: dict) -> None:
    arrays, _ = golden("upfirdn2d")
    kernel = torch.from_numpy(arrays[case["kernel"]])
    y = upfirdn2d(raw("x", 2, 3, 9, 11), kernel, case["up"], case["down"], tuple(case["pad"]))
    assert relative_error(y, arrays[case["output"]]) < TOLERANCE


def test_the_key_set_and_the_shapes_are_the_published_ones(generator: StyleGAN2, discriminator: Discriminator) -> None:
    for network, listing in (
        (generator, "rosinality_generator_64_cm2"),
        (discriminator, "rosinality_discriminator_64_cm2"),
    ):
        assert {key: list(value.shape) for key, value in network.state_dict().items()} == keys(listing)


def test_w_plus_with_and_without_noise(generator: StyleGAN2) -> None:
    expected, _ = golden("stylegan2-generator-64")
    w_plus = 0.7 * raw("w_plus", 2, 10, 512)
    assert relative_error(generator.synthesis(w_plus), expected["w_plus_image"]) < TOLERANCE
    assert relative_error(generator.synthesis(w_plus[:1], "none"), expected["no_noise_image"]) < TOLERANCE


def test_z_with_truncation_and_mixing(generator: StyleGAN2) -> None:
    expected, meta = golden("stylegan2-generator-64")
    z, z2 = raw("z", 2, 512), raw("z2", 2, 512)
    first, second = generator.mapping(z), generator.mapping(z2)
    assert relative_error(first, expected["mapping"]) < TOLERANCE
    mixed = generator.mix(first, second, meta["inject_index"])
    assert relative_error(mixed[:, :, :8], expected["mix_latents"]) < TOLERANCE
    assert relative_error(generator.synthesis(mixed[:1]), expected["mix_image"]) < TOLERANCE
    generator.latent_avg = 0.3 * raw("truncation_latent", 1, 512)[0]
    assert relative_error(generator(z[:1], psi=meta["truncation"]), expected["z_image"]) < TOLERANCE


def test_256_px_at_channel_multiplier_1() -> None:
    expected, meta = golden("stylegan2-generator-256-cm1")
    generator = StyleGAN2(256, channel_multiplier=1)
    load_filled(generator, "rosinality_generator_256_cm1")
    with torch.no_grad():
        image = generator.synthesis(0.7 * raw("w_plus", 1, 14, 512))
    stride = meta["subsampled"]["image"]["stride"]
    assert relative_error(image.flatten()[::stride], expected["image__sub"]) < TOLERANCE


def test_discriminator_with_full_and_small_groups(discriminator: Discriminator) -> None:
    expected, _ = golden("stylegan2-discriminator-64")
    x = raw("x", 4, 3, 64, 64) * torch.tensor([0.2, 0.5, 1.0, 2.0])[:, None, None, None]
    assert relative_error(discriminator(x).detach(), expected["logits"]) < TOLERANCE
    assert relative_error(discriminator(x[:2]).detach(), expected["logits_batch2"]) < TOLERANCE
    with pytest.raises(ValueError, match="batch of 6"):
        discriminator(torch.cat([x, x[:2]]))


def test_the_shared_convolution_equals_one_set_of_filters_per_sample() -> None:
    torch.manual_seed(0)
    layer = StyledConv(5, 7, style_dim=8)
    x, style = torch.randn(2, 5, 6, 6), torch.randn(2, 5)
    filters = layer.conv.weight * layer.conv.gain * style[:, None, :, None, None]
    filters = filters * torch.rsqrt(filters.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    y = torch.cat([torch.nn.functional.conv2d(x[i : i + 1], filters[i], padding=1) for i in range(2)])
    expected = torch.nn.functional.leaky_relu(y, 0.2) * 2**0.5
    assert torch.allclose(layer(x, style, noise=None, clamp=None), expected, atol=1e-5)


def test_spaces_agree_and_noise_is_under_control() -> None:
    torch.manual_seed(0)
    generator = StyleGAN2(32, style_dim=16, n_mlp=2, channels=TOY_CHANNELS)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise.weight"):
            parameter.data.fill_(0.3)
    z = torch.randn(3, 16)
    w_plus = generator.broadcast(generator.mapping(z))
    assert torch.equal(generator(z), generator.synthesis(w_plus))
    assert torch.equal(generator.synthesis(w_plus), generator.synthesis_from_styles(generator.styles(w_plus)))
    assert not torch.equal(generator(z, noise="random"), generator(z, noise="random"))
    assert not torch.allclose(generator(z, noise="const"), generator(z, noise="none"))
    with pytest.raises(ValueError, match=r"needs \[B, 8, 16\]"):
        generator.synthesis(w_plus[:, :5])


def test_conv_clamp_bounds_the_activations() -> None:
    torch.manual_seed(0)
    wide = StyleGAN2(32, style_dim=16, n_mlp=2, channels=TOY_CHANNELS)
    tight = StyleGAN2(32, style_dim=16, n_mlp=2, channels=TOY_CHANNELS, conv_clamp=0.05)
    tight.load_state_dict(wide.state_dict())
    z = torch.randn(2, 16)
    assert not torch.allclose(wide(z), tight(z))
    assert tight(z).abs().max() <= 0.05 * (1 + 3 * 4)


def test_fast_stays_within_its_stated_tolerance_of_exact(generator: StyleGAN2) -> None:
    w_plus = 0.7 * raw("w_plus", 2, 10, 512)
    exact = generator.synthesis(w_plus)
    set_precision(generator, "fast")
    fast = generator.synthesis(w_plus)
    set_precision(generator, "exact")
    error = (fast - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert error < 0.02 and (error > 0 or not has_bfloat16())
