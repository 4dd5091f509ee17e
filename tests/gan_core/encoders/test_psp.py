import numpy as np
import pytest
import torch
from torch import Tensor

from gan_core.encoders.base import ENCODERS
from gan_core.encoders.psp import GradualStyleEncoder
from gan_core.encoders.pyramid import level_of
from gan_core.errors import ParamsError
from tests.golden.fill import fill, fill_state, golden, keys, relative_error

SMALL = {"n_latent": 10, "style_dim": 16, "input_size": 64, "units": [1, 2, 3, 2], "width": 8}


def small(seed: int = 0) -> GradualStyleEncoder:
    torch.manual_seed(seed)
    encoder = GradualStyleEncoder(**SMALL).eval().requires_grad_(False)
    encoder.latent_avg.normal_()
    return encoder


def published(n_latent: int, listing: str) -> GradualStyleEncoder:
    encoder = GradualStyleEncoder(n_latent).eval().requires_grad_(False)
    state = {key: torch.from_numpy(value) for key, value in fill_state(keys(listing), rule="psp").items()}
    counters = {key: torch.tensor(0) for key in encoder.state_dict() if key.endswith("num_batches_tracked")}
    encoder.load_state_dict(state | counters, strict=True)
    return encoder


def golden_images() -> Tensor:
    return torch.from_numpy(np.clip(0.5 * fill("input:x", (2, 3, 256, 256), rule="raw"), -1, 1))


@pytest.mark.slow
def test_codes_equal_the_published_encoder() -> None:
    expected, _ = golden("psp-gradual-style-encoder-64")
    encoder = published(10, "psp_gradual_style_encoder_64")
    images = golden_images()
    c1, c2, c3 = (feature[0] for feature in encoder.features(images))
    assert relative_error(encoder(images), expected["codes"]) < 1e-4
    assert relative_error(c1[:8, ::8, ::8], expected["c1"]) < 1e-4
    assert relative_error(c2[:8, ::4, ::4], expected["c2"]) < 1e-4
    assert relative_error(c3[:16, ::2, ::2], expected["c3"]) < 1e-4


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        state = GradualStyleEncoder(10).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == keys("psp_gradual_style_encoder_64")


def test_the_full_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        encoder = GradualStyleEncoder(18)
    assert sum(p.numel() for p in encoder.parameters()) == 267_136_704
    assert len(encoder.state_dict()) == 621


def test_styles_read_three_coarse_four_middle_and_the_rest_fine() -> None:
    assert [level_of(i) for i in range(10)] == [0] * 3 + [1] * 4 + [2] * 3
    levels = small().pyramid(torch.zeros(1, 3, 64, 64))
    assert [level.shape[2] for level in levels] == [4, 8, 16]


def test_encode_resizes_and_adds_the_average() -> None:
    encoder = small()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    assert torch.equal(encoder.encode(images), encoder(images) + encoder.latent_avg)
    doubled = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert encoder.encode(doubled).shape == (2, 10, 16)
    flat = torch.full((1, 3, 96, 80), 0.3)
    torch.testing.assert_close(encoder.encode(flat), encoder.encode(torch.full((1, 3, 64, 64), 0.3)))


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    encoder = small()
    images = torch.rand(5, 3, 64, 64) * 2 - 1
    together = encoder.encode(images)
    alone = torch.cat([encoder.encode(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    encoder = small().train().requires_grad_(True)
    encoder(torch.randn(4, 3, 64, 64)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("size", [16, 48, 100])
def test_sizes_that_cannot_be_halved_to_a_vector_are_refused(size: int) -> None:
    with pytest.raises(ParamsError, match=f"input_size is {size}"):
        GradualStyleEncoder(**SMALL | {"input_size": size})


def test_arguments_rebuild_the_same_network() -> None:
    encoder = small()
    again = ENCODERS.get("psp")(**encoder.arguments)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in encoder.state_dict().items()}
