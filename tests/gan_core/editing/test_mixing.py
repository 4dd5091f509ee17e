import pytest
import torch

from gan_core.editing.mixing import mix_styles, random_styles
from gan_core.errors import ParamsError
from gan_core.generators.stylegan2 import StyleGAN2
from tests.golden.fill import fill, golden, keys, relative_error

LAYERS = (6, 10)


@pytest.fixture(scope="module")
def generator() -> StyleGAN2:
    generator = StyleGAN2(64).eval().requires_grad_(False)
    shapes = keys("rosinality_generator_64_cm2")
    state = {
        key: torch.from_numpy(fill(f"decoder.{key}", shape, rule="stylegan2"))
        for key, shape in shapes.items()
        if not key.endswith("kernel")
    }
    generator.load_state_dict(state, strict=False)
    return generator


def test_the_random_style_is_the_published_one(generator: StyleGAN2) -> None:
    expected, _ = golden("psp-style-mixing")
    z = torch.from_numpy(fill("input:inject_z", (1, 512), rule="raw"))
    assert relative_error(generator.mapping(z), expected["inject_latent"][:, 0]) < 1e-4


@pytest.mark.parametrize(("name", "alpha"), [("replace", 1.0), ("alpha0.5", 0.5), ("alpha0.3", 0.3), ("zero", 1.0)])
def test_mixed_codes_are_the_published_ones(name: str, alpha: float) -> None:
    expected, _ = golden("psp-style-mixing")
    codes = torch.from_numpy(expected["codes"])
    styles = None if name == "zero" else torch.from_numpy(expected["inject_latent"]).expand(1, 10, -1)
    mixed = mix_styles(codes, styles, LAYERS, alpha)
    assert torch.equal(mixed[:, :6], codes[:, :6])
    if name == "zero":
        assert mixed[:, 6:].abs().max() == expected["mix_codes_zero"].max() == 0
    else:
        assert relative_error(mixed[:, 6:], expected[f"mix_codes_{name}"]) < 1e-4


def test_the_mixed_picture_is_the_published_one(generator: StyleGAN2) -> None:
    expected, _ = golden("psp-style-mixing")
    styles = torch.from_numpy(expected["inject_latent"]).expand(1, 10, -1)
    mixed = mix_styles(torch.from_numpy(expected["codes"]), styles, LAYERS, 0.3)
    assert relative_error(generator.synthesis(mixed), expected["mix_image_alpha0.3"]) < 1e-4


def test_random_styles_follow_from_the_seed() -> None:
    small = StyleGAN2(16, 8, n_mlp=2, channels={4: 8, 8: 8, 16: 8}).eval()
    first, again, other = (random_styles(small, seed, 3) for seed in (1, 1, 2))
    assert first.shape == (3, small.n_latent, 8)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(first[:, 0], first[:, -1])


def test_layers_that_are_not_there_are_refused() -> None:
    with pytest.raises(ParamsError, match=r"layers \[6, 11\] of 'style mixing'"):
        mix_styles(torch.zeros(1, 10, 4), None, (6, 11))
